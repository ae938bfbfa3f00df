"""Reading runs for pages. Finished runs never change, so what is large about them is kept by id.

What changes is read once for all who watch it: nine open tabs ask the store as often as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
from numpy.typing import NDArray

from experiments.jobs.eta import Durations, Forecast, eta, forecast
from experiments.library import Library
from experiments.store.listing import Filters, Order
from experiments.store.queue import Phase
from experiments.store.store import RunDocument
from quantizers.errors import UnknownName
from quantizers.schema import Status

ACTIVE = Filters(statuses=(Status.RUNNING, Status.QUEUED))
MOST_ACTIVE = 500
MOST_OFFERED = 200
"""Finished runs to choose from on a page; any other is opened from the page of all runs."""


def library() -> Library:
    return Library()


def finished(source: Library, named: Sequence[str] = (), model: str | None = None) -> list[RunDocument]:
    """The newest finished runs and, wherever they stand, those `named`; then the examples. With `model`, its runs alone."""
    newest = source.store.runs(status=Status.DONE, model=model, limit=MOST_OFFERED)
    there = {run["run_id"] for run in newest}
    older = source.store.runs(ids=[run_id for run_id in named if run_id not in there], status=Status.DONE, model=model)
    return [*newest, *older, *(run for run in source.examples() if model in (None, run["model"]))]


@st.cache_resource(max_entries=64, show_spinner=False)
def with_layers(run_id: str) -> RunDocument:
    """A finished run with its layers. Shared: read only."""
    return library().run(run_id)


@st.cache_resource(max_entries=16, show_spinner=False)
def arrays(run_id: str) -> Mapping[str, NDArray[Any]]:
    """Histograms and per-channel figures of a finished run; nothing when it kept none. Shared: read only."""
    try:
        return library().details(run_id)
    except (UnknownName, FileNotFoundError):
        return {}


def all_with_layers(runs: Sequence[Mapping[str, Any]]) -> list[RunDocument]:
    return [with_layers(run["run_id"]) for run in runs]


@dataclass(frozen=True, slots=True)
class Watched:
    """An experiment at one moment: its runs, how far it is, how long its kind takes, and the seconds left of running trials.

    Of runs whose latency is measured together no seconds are told: a share of it would mean little.
    """

    runs: Sequence[RunDocument]
    forecast: Forecast
    durations: Durations
    left: Mapping[str, float | None]

    @property
    def active(self) -> bool:
        return any(Status(run["status"]).active for run in self.runs)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An experiment of which something is queued or running: those rows, and how far it is."""

    rows: Sequence[Mapping[str, Any]]
    forecast: Forecast


@st.cache_resource(ttl="1s", max_entries=4, show_spinner=False)
def under_way(home: str) -> Mapping[str, UnderWay]:
    """What is active by experiment, the oldest first, as it was at most a second ago; see `watched`."""
    del home
    store, experiments = library().store, dict[str, list[Mapping[str, Any]]]()
    for row in store.summaries(ACTIVE, Order.CREATED, descending=False, limit=MOST_ACTIVE).rows:
        experiments.setdefault(row["experiment_id"], []).append(row)
    return {name: UnderWay(rows, forecast(store, name)) for name, rows in experiments.items()}


@st.cache_resource(ttl="1s", max_entries=32, show_spinner=False)
def watched(home: str, experiment_id: str) -> Watched:
    """An experiment as it was at most a second ago; `watched.clear` with the same arguments has it read anew."""
    del home  # A part of the key: the store is that of the data directory.
    store = library().store
    runs = store.runs(experiment_id=experiment_id)
    alone = [run for run in runs if run["status"] == Status.RUNNING.value and run["phase"] == Phase.QUANTIZE.value]
    durations = Durations(store.seconds_taken(runs[0]["model"])) if runs else Durations(())
    return Watched(runs, forecast(store, experiment_id), durations, {run["run_id"]: eta(store, run) for run in alone})
