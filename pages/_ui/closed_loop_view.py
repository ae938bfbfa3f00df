"""Closed loop on the page: three changes of a layer, Apply, and the new run shown against the old one as soon as it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from experiments.jobs.worker import ensure_worker
from experiments.library import Library
from experiments.reuse import reusable
from experiments.spec import plan
from experiments.store.store import RunDocument
from pages._ui import format as fmt
from pages._ui import reading
from pages._ui.closed_loop import Change, Possible, Setting, experiment, possible
from pages._ui.errors import show_error
from pages._ui.fragments import fragment
from pages._ui.options import OPTION_TITLES
from pages._ui.outcome import error_words, stage_words
from quantizers.errors import InputError
from quantizers.schema import Status

POLL = "1s"
FLOAT = "float32"


def choose_and_change(library: Library, runs: Sequence[Mapping[str, Any]], layer: str, key: str) -> None:
    """The same for one of several runs, which a person picks; `runs` carry no layers."""
    quantized = {run["run_id"]: run for run in runs if run["technique"] != FLOAT}
    if not quantized:
        return
    names = fmt.run_names(quantized.values())
    with st.container(border=True):
        st.markdown(f"**Change {layer} and measure again**")
        chosen = next(iter(quantized))
        if len(quantized) > 1:
            chosen = st.selectbox(
                "Run to change", list(quantized), format_func=lambda run_id: names[run_id], key=f"{key}_run", width=420
            )
        run = reading.with_layers(chosen)
        if layer not in [one["name"] for one in run["layers"]]:
            st.caption(f"{names[chosen]} has no layer {layer}.")
            return
        _change(library, run, layer, f"{key}_{chosen}_{layer}")


def change_layer(library: Library, run: RunDocument, layer: str, key: str) -> None:
    """What can be changed about a layer of a finished run that carries its layers; nothing for a float baseline."""
    if run["technique"] == FLOAT:
        return
    with st.container(border=True):
        st.markdown(f"**Change {layer} and measure again**")
        _change(library, run, layer, f"{key}_{run['run_id']}_{layer}")


def _change(library: Library, run: RunDocument, layer: str, key: str) -> None:
    can = possible(run, layer)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        change = _choose(can, layer, key)
        pressed = st.button("Apply", key=f"{key}_apply", type="primary", icon=":material/replay:", disabled=change.empty)
    st.caption("A new run with the same data, samples, seed and threads; it is then shown against this one.")
    if pressed:
        _apply(library, run, change)


def _choose(can: Possible, layer: str, key: str) -> Change:
    why_not = can.keep_float_why_not
    keep = st.checkbox("Keep float", key=f"{key}_float", disabled=why_not is not None, help=why_not)
    wider = f"More bits: {can.bits[0]} → {can.bits[1]}" if can.bits else "More bits"
    why_not = "It is kept in float." if keep else can.more_bits_why_not
    more = st.checkbox(wider, key=f"{key}_bits", disabled=why_not is not None, help=why_not)
    clipping = st.selectbox(
        "Other clipping, of all layers",
        can.clipping,
        None,
        format_func=_words,
        key=f"{key}_clipping",
        disabled=not can.clipping,
        help=can.clipping_why_not,
        placeholder="As it was" if can.clipping else "Not possible",
        width=280,
    )
    return Change(layer, keep_float=keep, more_bits=more and not keep, clipping=clipping)


def _words(setting: Setting) -> str:
    name, value = setting
    return f"{OPTION_TITLES[name]}: {str(value).replace('_', ' ')}"


def _apply(library: Library, run: RunDocument, change: Change) -> None:
    """Submits the changed run, unless it has been measured already, and opens both side by side."""
    try:
        planned = plan(experiment(run, change))
    except InputError as error:
        show_error(error)
        return
    with st.spinner("Looking for the same run, measured before"):
        found = reusable(library.store, planned.trials)
    if found:
        (new,) = (known["run_id"] for known in found.values())
    else:
        (new,) = (queued["run_id"] for queued in library.store.runs(experiment_id=library.store.submit(planned)))
        ensure_worker()
    old = run["run_id"]
    st.switch_page("compare.py", query_params={"runs": f"{old},{new}", "baseline": old, "layer": change.layer})


def wait_for(library: Library, run_ids: Sequence[str]) -> None:
    """Those of the runs that are under way, with their progress, until one of them has ended; then the page runs anew."""
    runs = library.store.runs(ids=run_ids)
    active = [run["run_id"] for run in runs if Status(run["status"]).active]
    for run in runs:
        if run["run_id"] not in active:
            st.markdown(f"**{fmt.run_name(run)}** {error_words(run)}")
    if active:
        fragment(_progress, every=POLL)(library, active)


def _progress(library: Library, run_ids: Sequence[str]) -> None:
    runs = library.store.runs(ids=run_ids)
    if any(not Status(run["status"]).active for run in runs) or len(runs) < len(run_ids):
        st.rerun()
    for run in runs:
        st.progress(run["progress"], text=f"**{fmt.run_name(run)}** is measured: {stage_words(run)}")
