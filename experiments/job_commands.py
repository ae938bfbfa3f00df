"""The subcommands about experiments under way: `resume` and `cancel`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from experiments import console
from experiments.command import Json, guarded
from experiments.jobs.worker import ensure_worker
from experiments.run_command import resume_and_show
from experiments.store.store import Store
from quantizers.errors import ClusterUnavailable, InputError, UnknownName
from quantizers.schema import Status

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 10.0


def resume(experiment_id: str, as_json: Json = False) -> None:
    """Run what is interrupted of an experiment, and only that; prints what `run` prints."""
    guarded(lambda: resume_and_show(experiment_id, as_json), as_json)


def cancel(
    run_id: Annotated[str | None, typer.Argument(help="A run.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Instead of a run: all of an experiment.")] = None,
    as_json: Json = False,
) -> None:
    """Stop a run or an experiment, wait until it has ended, and print the status of what was active."""

    def work() -> None:
        if (run_id is None) == (experiment is None):
            raise InputError("Name either a run or an experiment.", "For example: cancel RUN, or cancel --experiment E.")
        store = Store()
        wanted: dict[str, Any] = {"experiment_id": experiment} if run_id is None else {"ids": [run_id]}
        found = store.runs(**wanted)
        if not found:
            raise UnknownName(f"There is no {'experiment' if run_id is None else 'run'} “{experiment or run_id}”.")
        ids = [run["run_id"] for run in found if Status(run["status"]).active]
        store.cancel(run_id=run_id, experiment_id=experiment)
        runs = [{"run_id": run["run_id"], "status": run["status"]} for run in _ended(store, ids)]
        words = f"{len(runs)} runs were active." if runs else "Nothing was active."
        console.show({"runs": runs}, as_json, lambda shown: "\n".join([words, *(_line(run) for run in shown["runs"])]))

    guarded(work, as_json)


def _ended(store: Store, ids: list[str]) -> list[dict[str, Any]]:
    """The runs once none is active, or after a while: a worker stops them within seconds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        runs = store.runs(ids=ids)
        if not any(Status(run["status"]).active for run in runs) or time.monotonic() > deadline:
            return runs
        try:
            ensure_worker(store.home)
        except ClusterUnavailable:
            return runs
        time.sleep(POLL_SECONDS)


def _line(run: dict[str, str]) -> str:
    return f"{run['run_id']}  {run['status']}"
