"""The job tray: what is under way, at the foot of every page, and a toast when an experiment has ended.

It polls while something is active and only then: when the set of active experiments changes, the whole page runs once, which
starts or stops the clock and says what has ended. Each visitor's session remembers which experiments it has seen active, so an
experiment is announced once, on whatever page one is by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from experiments.jobs.worker import ensure_worker
from experiments.library import Library
from experiments.store.store import Store
from pages._ui import format as fmt
from pages._ui import reading
from pages._ui.errors import show_error
from pages._ui.fragments import fragment
from pages._ui.outcome import stage_words, tally
from quantizers.errors import QuantScopeError, StoreError
from quantizers.schema import Status

POLL = "2s"
MOST_EXPERIMENTS = 3
WATCHED = "tray_watched"
ENDED_WELL = {Status.DONE.value, Status.UNAVAILABLE.value}
Row = Mapping[str, Any]


def show_tray() -> None:
    """Draws the tray if something is active, and announces what has ended since this visitor last looked."""
    try:
        store = Library().store
        reading.under_way.clear(str(store.home))
        active = reading.under_way(str(store.home))
    except StoreError:
        return  # The page below needs the store as well, and says what is wrong with it.
    _announce(store, list(active))
    if active:
        with st.bottom:
            fragment(_tray, every=POLL)(list(active))


def _announce(store: Store, active: Sequence[str]) -> None:
    watched: list[str] = st.session_state.get(WATCHED, [])
    for experiment_id in watched:
        if experiment_id not in active:
            runs = store.runs(experiment_id=experiment_id)
            if runs:
                well = all(run["status"] in ENDED_WELL for run in runs)
                icon = ":material/check_circle:" if well else ":material/error:"
                st.toast(
                    f"**{runs[0]['model']}**: {tally(Counter(Status(run['status']) for run in runs))}.",
                    icon=icon,
                    duration="long",
                )
    st.session_state[WATCHED] = list(active)


def _tray(shown: Sequence[str]) -> None:
    try:
        store = Library().store
        active = reading.under_way(str(store.home))
        if set(active) != set(shown):
            st.rerun()
        ensure_worker()
    except QuantScopeError as error:
        show_error(error)
        return
    with st.container(key="tray", gap="xsmall"):
        for experiment_id, one in list(active.items())[:MOST_EXPERIMENTS]:
            _experiment(store, experiment_id, one)
        if len(active) > MOST_EXPERIMENTS:
            st.caption(f"{len(active) - MOST_EXPERIMENTS} more experiments wait for these.")


def _experiment(store: Store, experiment_id: str, one: reading.UnderWay) -> None:
    """One line of the tray."""
    told, rows = one.forecast, one.rows
    left = f" · about {fmt.seconds(told.seconds)} left" if told.seconds else ""
    bar, link, trials, cancel = st.columns([6, 1.6, 1.4, 1.3], vertical_alignment="center")
    words = f"**{rows[0]['model']}** {tally(told.counts)}{left} · {_now(rows)}"
    bar.progress(told.fraction, text=words)
    link.page_link(
        "new_experiment.py", label="Open", icon=":material/arrow_forward:", query_params={"new_experiment": experiment_id}
    )
    with trials.popover("Trials", type="tertiary", key=f"tray_trials_{experiment_id}", on_change="rerun") as opened:
        if opened.open:
            _trials(store, rows)
    cancel.button(
        "Cancel all",
        key=f"tray_cancel_{experiment_id}",
        type="tertiary",
        on_click=store.cancel,
        kwargs={"experiment_id": experiment_id},
    )


def _now(rows: Sequence[Row]) -> str:
    """What happens at this moment, in the words of the first run it happens to."""
    running = [row for row in rows if row["status"] == Status.RUNNING.value]
    first = (running or list(rows))[0]
    others = f" and {len(running) - 1} more" if len(running) > 1 else ""
    return f"{fmt.run_name(first)}{others}: {stage_words(first)}"


def _trials(store: Store, rows: Sequence[Row]) -> None:
    for row in rows:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{fmt.run_name(row)}  \n:small[:gray[{stage_words(row)}]]", width="stretch")
            key = f"tray_cancel_{row['run_id']}"
            st.button("Cancel", key=key, type="tertiary", on_click=store.cancel, kwargs={"run_id": row["run_id"]})
