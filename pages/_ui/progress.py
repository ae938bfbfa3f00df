"""An experiment under way: a row a trial, with its stage and the time left, that turns into its result in place.

The rows are a fragment that runs every second while a trial is active; when none is any more, the whole page runs once to
take the clock away.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from experiments.jobs.worker import ensure_worker
from experiments.library import Library
from experiments.store.store import RunDocument
from pages._ui import format as fmt
from pages._ui.durations import Durations
from pages._ui.errors import show_error
from pages._ui.matrix import possible, write
from pages._ui.options import off_default, restore
from pages._ui.outcome import conditions_words, error_words, result_words
from quantizers.errors import UnknownName
from quantizers.schema import Backend, Status

POLL = "1s"
COLUMNS = (2.2, 4.4, 1.6, 1.2)
MAX_COMPARED = 8


def show_experiment(library: Library, experiment_id: str) -> None:
    """The whole view of one experiment; a designed message when there is none of that id."""
    runs = library.store.runs(experiment_id=experiment_id)
    if not runs:
        st.title("Experiment")
        show_error(UnknownName(f"There is no experiment “{experiment_id}”.", "It was deleted, or run elsewhere."))
        st.button("Set up a new experiment", key="new_leave", on_click=_leave, icon=":material/add_circle:")
        return
    st.title(f"Experiment on {runs[0]['model']}")
    st.caption(f"Each trial: {conditions_words(runs[0]['measurement'])}.")
    earlier = [run for run in [*library.examples(), *library.store.runs()] if run["experiment_id"] != experiment_id]
    polling = _active(runs)
    st.fragment(_watch, run_every=POLL if polling else None)(library, experiment_id, earlier, polling)


def _watch(library: Library, experiment_id: str, earlier: Sequence[RunDocument], polling: bool) -> None:
    runs = library.store.runs(experiment_id=experiment_id)
    if polling and not _active(runs):
        st.rerun()
    if polling:
        ensure_worker()
    durations, now = Durations([*earlier, *runs]), time.time()
    remaining = {run["run_id"]: durations.remaining(run, now) for run in runs if _active([run])}
    known = [seconds for seconds in remaining.values() if seconds is not None]
    _heading(library, experiment_id, runs, sum(known) if len(known) == len(remaining) else None)
    for run in runs:
        _row(library, run, remaining.get(run["run_id"]), now)


def _active(runs: Sequence[RunDocument]) -> bool:
    return any(Status(run["status"]).active for run in runs)


def _heading(library: Library, experiment_id: str, runs: Sequence[RunDocument], remaining: float | None) -> None:
    done = [run["run_id"] for run in runs if run["status"] == Status.DONE.value]
    interrupted = sum(run["status"] == Status.INTERRUPTED.value for run in runs)
    words = f"{len(done)} of {len(runs)} done"
    if _active(runs):
        words += f", about {fmt.seconds(remaining)} left" if remaining else ""
        st.progress(sum(run["progress"] if _active([run]) else 1.0 for run in runs) / len(runs), text=words)
    else:
        st.caption(words)
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(done) > 1:
            chosen = done[:MAX_COMPARED]
            label = "Compare these" if len(chosen) == len(done) else f"Compare the first {MAX_COMPARED}"
            st.page_link("compare.py", label=label, icon=":material/compare_arrows:", query_params={"runs": ",".join(chosen)})
        if _active(runs):
            cancel = {"experiment_id": experiment_id}
            st.button("Cancel all", key="new_cancel", icon=":material/cancel:", on_click=library.store.cancel, kwargs=cancel)
            return
        if interrupted:
            label = f"Resume {interrupted} interrupted"
            if st.button(label, key="new_resume", icon=":material/resume:"):
                library.store.resume(experiment_id)
                st.rerun()
        # A callback of a fragment runs the fragment alone; what changes the whole page asks for a run of it.
        if st.button("Change and run again", key="new_leave", icon=":material/tune:"):
            _again(runs)
            st.rerun()


def _row(library: Library, run: RunDocument, remaining: float | None, now: float) -> None:
    status = Status(run["status"])
    name, what, when, action = st.columns(COLUMNS, vertical_alignment="center")
    name.markdown(f"**{fmt.run_name(run)}**")
    with what:
        _state(run, status)
    when.caption(_time(run, status, remaining, now))
    with action:
        if status.active:
            key = f"new_cancel_{run['run_id']}"
            cancel = {"run_id": run["run_id"]}
            st.button("Cancel", key=key, type="tertiary", on_click=library.store.cancel, kwargs=cancel)
        elif status is Status.DONE:
            st.page_link("layers.py", label="Layers", icon=":material/layers:", query_params={"run": run["run_id"]})
        elif status is Status.FAILED:
            st.page_link("runs.py", label="Details", icon=":material/article:", query_params={"runs_open": run["run_id"]})


def _state(run: RunDocument, status: Status) -> None:
    """What a trial is doing, or what came out of it."""
    if status is Status.RUNNING:
        st.progress(run["progress"], text=run["stage"] or "Starting")
    elif status is Status.DONE:
        st.markdown(result_words(run))
    else:
        st.markdown(error_words(run))


def _time(run: RunDocument, status: Status, remaining: float | None, now: float) -> str:
    if status is Status.QUEUED:
        return f"takes about {fmt.seconds(remaining)}" if remaining else ""
    if not run["started"]:
        return ""
    if status is Status.RUNNING:
        left = f", about {fmt.seconds(remaining)} left" if remaining else ""
        return fmt.seconds(now - run["started"]) + left
    return f"took {fmt.seconds(run['finished'] - run['started'])}" if run["finished"] else ""


def _again(runs: Sequence[RunDocument]) -> None:
    """Back to the form, filled in as this experiment was."""
    _leave()
    asked = {(Backend(run["backend"]), run["technique"]) for run in runs}
    pairs = [pair for pair in possible() if pair in asked]
    st.query_params.update(new_model=runs[0]["model"], new_data=runs[0]["measurement"]["data"], new_techniques=write(pairs))
    options = {name: value for run in runs for name, value in off_default(run).items()}
    restore(runs[0]["measurement"], options, runs[0]["keep_float"])


def _leave() -> None:
    st.query_params.pop("new_experiment", None)
