"""Waiting for an experiment at a terminal: a progress bar per trial on standard error, Ctrl-C cancels."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiments.jobs.eta import Forecast, forecast
from experiments.jobs.worker import ensure_worker
from experiments.store.store import RunDocument, Store
from quantizers.schema import Status

POLL_SECONDS = 0.3


def follow(store: Store, experiment_id: str, *, quiet: bool) -> bool:
    """Waits until no trial is active; returns True if the person interrupted it, which cancels the rest."""
    cancelled = False
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[stage]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bars:
        whole = bars.add_task("all trials", total=1.0, stage="")
        tasks = {
            run["run_id"]: bars.add_task(f"{run['backend']} {run['technique']}", total=1.0, stage="queued", start=False)
            for run in store.runs(experiment_id=experiment_id)
        }
        while True:
            try:
                ensure_worker(store.home)
                runs = store.runs(experiment_id=experiment_id)
                _show(bars, tasks, runs)
                if not any(Status(run["status"]).active for run in runs):
                    return cancelled
                told = forecast(store, experiment_id)
                bars.update(whole, completed=told.fraction, stage=_words(told))
                time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                cancelled = True
                store.cancel(experiment_id=experiment_id)


def _show(bars: Progress, tasks: Mapping[str, TaskID], runs: Sequence[RunDocument]) -> None:
    for run in runs:
        if Status(run["status"]) is not Status.QUEUED:
            bars.start_task(tasks[run["run_id"]])
        bars.update(tasks[run["run_id"]], completed=run["progress"], stage=run["stage"] or run["status"])


def _words(told: Forecast) -> str:
    ended = f"{told.ended} of {told.total}"
    return ended if told.seconds is None else f"{ended}, about {timedelta(seconds=round(told.seconds))} left"
