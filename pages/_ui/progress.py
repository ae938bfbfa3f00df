"""An experiment under way: what runs now with its stage and the time left, then a row for each other trial.

What runs is a fragment that runs every second while a trial is active; the rows below it stand still, for nine tabs that draw
eighty of them every second would keep the server from everything else. When a trial begins or ends, the whole page runs once.
The worker is kept alive by the job tray, which polls on every page.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import streamlit as st

from experiments.library import Library
from experiments.store.store import RunDocument
from pages._ui import estimates, reading, url_state
from pages._ui import format as fmt
from pages._ui.address import address_of
from pages._ui.errors import show_error
from pages._ui.fragments import fragment
from pages._ui.outcome import badge, conditions_words, error_words, result_words, stage_words, tally
from pages._ui.training import show_curves
from quantizers.errors import UnknownName
from quantizers.schema import Status

POLL = "1s"
COLUMNS = (2.2, 4.4, 1.6, 1.2)
MAX_COMPARED = 8
MAX_WAITING = 8
"""Trials that wait are folded away when there are more."""
LOG_LINES = 15
REUSED = "new_reused"
"""Runs that were measured before and are shown beside the experiment's own."""


def show_experiment(library: Library, experiment_id: str) -> None:
    """The whole view of one experiment; a designed message when there is none of that id."""
    reading.watched.clear(str(library.store.home), experiment_id)
    told = reading.watched(str(library.store.home), experiment_id)
    runs = told.runs
    if not runs:
        st.title("Experiment")
        show_error(UnknownName(f"There is no experiment “{experiment_id}”.", "It was deleted, or run elsewhere."))
        st.button("Set up a new experiment", key="new_leave", on_click=_leave, icon=":material/add_circle:")
        return
    st.title(f"Experiment on {runs[0]['model']}")
    st.caption(f"Each trial: {conditions_words(runs[0]['measurement'])}.")
    reused = library.runs(url_state.read_list(REUSED))
    fragment(_watch, every=POLL if told.active else None)(library, experiment_id, reused, _standing(told))
    for run in reused:
        _row(library, run, f"measured {fmt.day(run['finished'])}")
    waiting = [run for run in told.runs if run["status"] == Status.QUEUED.value and not run["progress"]]
    for run in told.runs:
        if not _running(run) and (run not in waiting or len(waiting) <= MAX_WAITING):
            _row(library, run, _time(run, told))
    if len(waiting) > MAX_WAITING:
        _folded(library, waiting, told)


def _folded(library: Library, waiting: Sequence[RunDocument], told: reading.Watched) -> None:
    """Many trials that wait, drawn only while they are unfolded."""
    label = f"{len(waiting)} trials wait for their turn"
    with st.expander(label, icon=":material/hourglass_empty:", key="new_waiting", on_change="rerun") as unfolded:
        for run in waiting if unfolded.open else ():
            _row(library, run, _time(run, told))


def _watch(library: Library, experiment_id: str, reused: Sequence[RunDocument], shown: Mapping[str, str]) -> None:
    """The heading and what runs now; `shown` is how each trial stood when the rest of the page was drawn."""
    told = reading.watched(str(library.store.home), experiment_id)
    if _standing(told) != shown:
        st.rerun()
    _heading(library, experiment_id, told, reused)
    for run in told.runs:
        if _running(run):
            _row(library, run, _time(run, told))
    if told.active:
        _logs(library, told.runs)


def _standing(told: reading.Watched) -> Mapping[str, str]:
    return {run["run_id"]: run["status"] for run in told.runs}


def _heading(library: Library, experiment_id: str, told: reading.Watched, reused: Sequence[RunDocument]) -> None:
    done = [run["run_id"] for run in [*reused, *told.runs] if run["status"] == Status.DONE.value]
    words = tally(Counter(told.forecast.counts) + Counter({Status.DONE: len(reused)}))
    if told.active:
        seconds = told.forecast.seconds
        st.progress(told.forecast.fraction, text=words + (f", about {fmt.seconds(seconds)} left" if seconds else ""))
    else:
        st.caption(words)
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(done) > 1:
            chosen = done[:MAX_COMPARED]
            label = "Compare these" if len(chosen) == len(done) else f"Compare the first {MAX_COMPARED}"
            st.page_link("compare.py", label=label, icon=":material/compare_arrows:", query_params={"runs": ",".join(chosen)})
        if told.active:
            cancel = {"experiment_id": experiment_id}
            st.button("Cancel all", key="new_cancel", icon=":material/cancel:", on_click=library.store.cancel, kwargs=cancel)
            return
        _afterwards(library, experiment_id, told.runs)


def _afterwards(library: Library, experiment_id: str, runs: Sequence[RunDocument]) -> None:
    """What can be done with an experiment of which nothing is active any more."""
    interrupted = sum(run["status"] == Status.INTERRUPTED.value for run in runs)
    if interrupted:
        label = f"Resume {interrupted} interrupted"
        help_ = "Runs what is missing; what was measured stays as it is"
        if st.button(label, key="new_resume", type="primary", icon=":material/resume:", help=help_):
            library.store.resume(experiment_id)
            st.rerun()
    # A callback of a fragment runs the fragment alone; what changes the whole page asks for a run of it.
    if st.button("Change and run again", key="new_leave", icon=":material/tune:"):
        _leave()
        st.query_params.update(address_of(runs))
        st.rerun()


def _row(library: Library, run: RunDocument, when: str) -> None:
    status = Status(run["status"])
    name, what, time_, action = st.columns(COLUMNS, vertical_alignment="center")
    name.markdown(f"**{fmt.run_name(run)}**")
    with what:
        _state(run, status)
    time_.caption(when)
    with action:
        if status.active:
            key = f"new_cancel_{run['run_id']}"
            cancel = {"run_id": run["run_id"]}
            st.button("Cancel", key=key, type="tertiary", on_click=library.store.cancel, kwargs=cancel)
        elif status is Status.DONE:
            st.page_link("layers.py", label="Layers", icon=":material/layers:", query_params={"run": run["run_id"]})
        elif status is Status.FAILED:
            st.page_link("runs.py", label="Details", icon=":material/article:", query_params={"runs_open": run["run_id"]})
    epochs = ((run["live"] or {}) if status is Status.RUNNING else {}).get("training", {}).get("epochs", [])
    show_curves(epochs, f"new_curve_{run['run_id']}")


def _state(run: RunDocument, status: Status) -> None:
    """What a trial is doing, or what came out of it."""
    if status is Status.RUNNING or (status is Status.QUEUED and run["progress"]):
        st.progress(run["progress"], text=stage_words(run))
    elif status is Status.QUEUED:
        st.markdown(badge(run).markdown())
    elif status is Status.DONE:
        st.markdown(result_words(run))
    else:
        st.markdown(error_words(run))


def _time(run: RunDocument, told: reading.Watched) -> str:
    status = Status(run["status"])
    if status is Status.QUEUED and not run["started"]:
        typical = estimates.alone(told.durations, run)
        return f"takes about {fmt.seconds(typical)}" if typical else ""
    if status is Status.RUNNING:
        left = told.left.get(run["run_id"])
        return fmt.seconds(time.time() - run["started"]) + (f", about {fmt.seconds(left)} left" if left else "")
    return f"took {fmt.seconds(run['finished'] - run['started'])}" if run["started"] and run["finished"] else ""


def _logs(library: Library, runs: Sequence[RunDocument]) -> None:
    """The last lines of what runs now, read only while they are unfolded."""
    with st.expander("Log of what is running", icon=":material/article:", key="new_logs", on_change="rerun") as unfolded:
        if not unfolded.open:
            return
        told = {run["run_id"]: library.store.log_tail(run["run_id"], LOG_LINES) for run in runs if _running(run)}
        for run in runs:
            if lines := told.get(run["run_id"]):
                st.caption(fmt.run_name(run))
                st.code("\n".join(lines), language=None, wrap_lines=True)
        if not any(told.values()):
            st.caption("Nothing has been written yet.")


def _running(run: RunDocument) -> bool:
    return Status(run["status"]) is Status.RUNNING


def _leave() -> None:
    for name in ("new_experiment", REUSED):
        st.query_params.pop(name, None)
