"""Layers: one run, every layer; the address names the run (`run`) and the layer whose inspector is open (`layer`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from numpy.typing import NDArray

from experiments.library import Library
from experiments.store.store import RunDocument
from pages._ui import format as fmt
from pages._ui.charts import show as show_chart
from pages._ui.charts_ranges import finding, ranges, ranges_figure
from pages._ui.downloads import downloads
from pages._ui.errors import show_empty, show_error
from pages._ui.findings import find
from pages._ui.inspector import inspect
from pages._ui.layer_table import columns, frame
from pages._ui.outcome import error_words, result_words
from pages._ui.reading import arrays as read_arrays
from pages._ui.reading import finished
from pages._ui.theme import backend_colour, palette
from quantizers.errors import QuantScopeError, UnknownName
from quantizers.schema import Status


def choose_run(library: Library) -> str | None:
    """The picker of finished runs; returns the id the address names, or that of the newest run with something quantized."""
    runs = finished(library, named=[st.query_params["run"]] if "run" in st.query_params else ())
    names = fmt.run_names(runs)
    quantized = (run["run_id"] for run in runs if run.get("layers_quantized"))
    chosen = st.query_params.get("run") or next(quantized, next(iter(names), None))
    if chosen is None:
        return None
    examples = {run["run_id"] for run in runs if run.get("example")}
    st.session_state["layers_run"] = chosen if chosen in names else None
    st.selectbox(
        "Run",
        list(names),
        key="layers_run",
        format_func=lambda run_id: names[run_id] + (" · example" if run_id in examples else ""),
        on_change=_choose_run,
        placeholder="Choose a finished run",
        width=640,
    )
    return chosen


def _choose_run() -> None:
    st.query_params["run"] = st.session_state["layers_run"]
    st.query_params.pop("layer", None)


def show(library: Library, run: RunDocument) -> None:
    """A finished run: its verdict, the finding, the table, and the inspector of the chosen layer."""
    st.markdown(result_words(run))
    layers: Sequence[Mapping[str, Any]] = run["layers"]
    found = find(layers)
    st.markdown(found.text)
    names = [layer["name"] for layer in layers]
    chosen = st.query_params.get("layer", found.layer or names[0])
    arrays = read_arrays(run["run_id"])
    _table(run, layers, arrays, names.index(chosen) if chosen in names else None)
    downloads(library, run, key="layers")
    if chosen not in names:
        show_error(UnknownName.of("layer of this run", chosen, names))
        return
    inspect(library, run, layers[names.index(chosen)], arrays)
    _ranges(run, arrays)


def _ranges(run: RunDocument, arrays: Mapping[str, NDArray[Any]]) -> None:
    """The activations of all layers against calibration, where they are on an integer grid."""
    found = ranges(run, arrays)
    if found:
        colours = palette()
        show_chart(
            ranges_figure(found, backend_colour(run["backend"], colours), colours),
            title=finding(found),
            caption="Outputs of all layers, as float, on evaluation samples; the lines are the bounds that calibration set.",
            alt="Ranges of every layer's output against those that calibration set",
            key="layers_ranges",
        )


def _table(run: RunDocument, layers: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]], row: int | None) -> None:
    key = f"layers_table_{run['run_id']}"
    st.session_state[key] = {"selection": {"rows": [] if row is None else [row], "columns": [], "cells": []}}
    st.dataframe(
        frame(layers, arrays),
        key=key,
        hide_index=True,
        column_config=columns(backend_colour(run["backend"], palette())),
        on_select=lambda: _choose_layer(run["run_id"], key, [layer["name"] for layer in layers]),
        selection_mode=["single-row", "single-cell"],
        placeholder=fmt.MISSING,
        alt="Layers with their quantization parameters and errors; select a row to inspect its layer",
    )


def _choose_layer(run_id: str, key: str, names: Sequence[str]) -> None:
    selection = st.session_state[key].selection
    rows = [row for row, _ in selection.cells] or selection.rows
    if rows:
        st.query_params.update(run=run_id, layer=names[rows[0]])


st.title("Layers")
library = Library()
run_id = choose_run(library)
if run_id is None:
    show_empty("No run has finished yet.", "new_experiment.py", "Set up an experiment")
else:
    try:
        run = library.run(run_id)
    except QuantScopeError as error:
        show_error(error)
    else:
        if run["status"] == Status.DONE:
            show(library, run)
        else:
            st.markdown(f"{fmt.run_name(run)} on {run['model']} has no layers to show. {error_words(run)}")
