"""What `run` does once it is known what, and `resume` again: runs it, prints all runs, and leaves with an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import typer

from experiments import console
from experiments.command import CANCELLED, FAILED
from experiments.follow import follow
from experiments.library import Library
from experiments.reuse import reusable
from experiments.spec import Impossible, Plan, TrialSpec
from experiments.store.store import SECTIONS, RunDocument
from quantizers.errors import UnknownName
from quantizers.schema import Status


def run_and_show(plan: Plan, *, reuse: bool, as_json: bool, priority: int = 0) -> None:
    """Runs the trials of a plan, except those that `reuse` finds finished, and shows all in the order they were asked for."""
    library = Library()
    reused = reusable(library.store, plan.trials) if reuse else {}
    missing = replace(plan, trials=tuple(trial for trial in plan.trials if trial.digest not in reused))
    runs = [library.run(run["run_id"]) for run in reused.values()]
    experiment_id, interrupted = None, False
    if missing.trials:
        experiment_id = library.store.submit(missing, priority=priority)
        interrupted = follow(library.store, experiment_id, quiet=as_json)
        runs += [library.run(run["run_id"]) for run in library.store.runs(experiment_id=experiment_id)]
    else:
        runs += [_impossible(one, plan.trials[0]) for one in plan.impossible]
    order = [(one.backend, one.technique) for one in plan.trials] + [(one.backend, one.technique) for one in plan.impossible]
    runs.sort(key=lambda run: order.index((run["backend"], run["technique"])))
    _show(experiment_id, runs, interrupted, as_json)


def resume_and_show(experiment_id: str, as_json: bool) -> None:
    """Runs what is interrupted of an experiment, waits for what is active, and shows all of it."""
    library = Library()
    if not library.store.runs(experiment_id=experiment_id):
        raise UnknownName(f"There is no experiment “{experiment_id}”.", "List the runs there are: each names its experiment.")
    library.store.resume(experiment_id)
    interrupted = follow(library.store, experiment_id, quiet=as_json)
    runs = [library.run(run["run_id"]) for run in library.store.runs(experiment_id=experiment_id)]
    _show(experiment_id, runs, interrupted, as_json)


def _show(experiment_id: str | None, runs: Sequence[RunDocument], interrupted: bool, as_json: bool) -> None:
    """Prints runs and, unless all went well, leaves with the exit code that says so."""
    console.show({"schema": 1, "experiment_id": experiment_id, "runs": runs}, as_json, console.runs_table)
    statuses = {Status(run["status"]) for run in runs}
    if interrupted or Status.CANCELLED in statuses:
        raise typer.Exit(CANCELLED)
    if statuses - {Status.DONE, Status.UNAVAILABLE}:
        raise typer.Exit(FAILED)


def _impossible(one: Impossible, other: TrialSpec) -> RunDocument:
    """The row of a trial that cannot be, for an experiment in which nothing had to be run, and so nothing was stored."""
    head: RunDocument = {"schema": 1, "run_id": None, "experiment_id": None, "status": Status.UNAVAILABLE.value}
    head |= {"model": other.model, "backend": one.backend.value, "technique": one.technique, "error": one.error.to_dict()}
    head |= {"options": {}, "measurement": asdict(other.measurement), "artefact": None, "layers": []}
    return head | dict.fromkeys(SECTIONS) | {f"{name}_why_not": "the run is unavailable" for name in SECTIONS}
