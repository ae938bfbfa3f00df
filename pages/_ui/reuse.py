"""Trials that were measured before, offered as done: take them, or measure anew. The address holds the choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from experiments.reuse import reusable
from experiments.spec import Plan
from experiments.store.store import RunDocument, Store
from pages._ui import format as fmt

USE, ANEW = "Use them", "Measure anew"


def offer_reuse(store: Store, planned: Plan) -> tuple[Plan, list[str]]:
    """Says which trials are measured already, if any are.

    Returns:
        The plan of what is left to do, perhaps of no trial, and the ids of the runs that are taken instead.
    """
    # Weights and samples may have changed behind their names: reading them takes a second or two, once.
    with st.spinner("Looking for trials that were measured before"):
        found = reusable(store, planned.trials)
    if not found:
        return planned, []
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(_words(found, len(planned.trials)), width="content")
        chosen = st.segmented_control(
            "Trials measured before",
            [USE, ANEW],
            default=USE,
            required=True,
            key="new_reuse",
            bind="query-params",
            label_visibility="collapsed",
        )
    if chosen == ANEW:
        return planned, []
    missing = tuple(trial for trial in planned.trials if trial.digest not in found)
    return replace(planned, trials=missing), [run["run_id"] for run in found.values()]


def _words(found: Mapping[str, RunDocument], total: int) -> str:
    days = list(dict.fromkeys(fmt.day(run["finished"]) for run in sorted(found.values(), key=lambda run: run["finished"])))
    when = f"on {days[0]}" if len(days) == 1 else f"between {days[0]} and {days[-1]}"
    return (
        f"{len(found)} of {total} {'was' if len(found) == 1 else 'were'} measured before, {when}, on the same weights and data."
    )
