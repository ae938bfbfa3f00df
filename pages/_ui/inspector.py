"""The inspector of one layer: its error in figures, its weights and output before and after, its channels and its codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray

from experiments.library import Library
from experiments.store.store import RunDocument
from pages._ui import format as fmt
from pages._ui.charts import show
from pages._ui.charts_histogram import Histogram, histograms
from pages._ui.closed_loop_view import change_layer
from pages._ui.findings_layer import explain
from pages._ui.inspector_charts import (
    Channels,
    calibrated_range,
    channels_figure,
    channels_finding,
    codes_figure,
    codes_finding,
    range_finding,
)
from pages._ui.inspector_errors import show_errors
from pages._ui.theme import backend_colour, palette

SPIKE_PERCENT = 20
"""A bin that holds more, such as the zeros of a ReLU, would flatten all others on a linear axis."""
HISTOGRAM_KEY = "Grey: float. Line: after dequantizing. Dashed: the range integers can represent. Thin: zero."


@dataclass(frozen=True, slots=True)
class Figure:
    """One error figure: where it is read, how it is written, and what it means in a line."""

    part: str
    name: str
    title: str
    text: Callable[[float], str]
    meaning: str


FIGURES = (
    Figure("weight", "sqnr_db", "Weight SQNR", fmt.decibels, "Power of the weights over that of their error; 6 dB is one bit."),
    Figure("output", "sqnr_db", "Output SQNR", fmt.decibels, "Of the layer's output, with every layer before it quantized."),
    Figure(
        "weight", "rmse_per_step", "RMSE / step", fmt.number, "Ideal rounding gives 0.289; clipping more, unused range less."
    ),
    Figure("weight", "clipping_share", "Clipping share", fmt.percent, "Of the weights' squared error; the rest is rounding."),
    Figure("weight", "levels_used", "Levels used", fmt.percent, "Distinct integer codes that occur, of all there are."),
)


def inspect(library: Library, run: RunDocument, layer: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Draws everything there is to see of one layer of a finished run, and what can be changed about it."""
    st.subheader(layer["name"])
    st.caption(_describe(layer))
    st.markdown(" ".join(explain(layer, run["layers"], Channels.of(layer, arrays))))
    change_layer(library, run, layer["name"], "layers_change")
    with st.grid(4, min_column_width=160):
        for figure in FIGURES:
            _figure(figure, layer)
    show_errors(layer)
    left, right = st.columns(2)
    with left:
        _weights(run, layer, arrays)
    with right:
        _outputs(run, layer, arrays)
    left, right = st.columns(2)
    with left:
        _channels(run, layer, arrays)
    with right:
        _codes(run, layer, arrays)


def _describe(layer: Mapping[str, Any]) -> str:
    weight = layer["weight"]
    parts = [layer["op"], f"weights {' × '.join(map(str, weight['shape']))} {weight['dtype']}"]
    parts += [weight[name].replace("_", " ") for name in ("scheme", "granularity") if weight.get(name)]
    parts += [f"runs in {layer['runs_in']}"] if layer.get("runs_in") else []
    parts += [f"called {layer['native_name']} in the file"] if layer.get("native_name") != layer["name"] else []
    reason = layer.get("why_not")
    if not reason:
        return " · ".join(parts)
    return f"{' · '.join(parts)}. {reason if layer['quantized'] else f'Stays in float: {reason}'}"


def _figure(figure: Figure, layer: Mapping[str, Any]) -> None:
    described = layer[figure.part] or {}
    value = described.get(figure.name)
    reason = described.get(f"{figure.name}_why_not")
    if value is not None:
        st.metric(figure.title, figure.text(value), help=figure.meaning, border=True)
    elif reason == "exact":
        st.metric(figure.title, "exact", help=f"{figure.meaning} Here there is no error at all.", border=True)
    else:
        why = (
            reason
            or layer.get(f"{figure.part}_why_not")
            or ("It needs an integer grid" if not layer["quantized"] else "Not recorded")
        )
        st.metric(figure.title, fmt.MISSING, help=f"{figure.meaning} {why}.", border=True)


def _weights(run: Mapping[str, Any], layer: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    title = "Weights before and after"
    data = Histogram.of(run, "", layer, arrays)
    if data is None:
        _absent(title, "This run kept no histogram of its weights.")
        return
    alt = f"Histogram of the weights of {layer['name']}, float against quantized"
    show(_drawn(data, "Weight value"), title=title, alt=alt, key="layers_weight", caption=HISTOGRAM_KEY)


def _outputs(run: Mapping[str, Any], layer: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    data = Histogram.of(run, "", layer, arrays, "output")
    if data is None:
        _absent("Outputs before and after", "This run kept no histogram of its outputs.")
        return
    data = replace(data, clip=calibrated_range(layer["output"]))
    alt = f"Histogram of the outputs of {layer['name']}, float against quantized"
    show(_drawn(data, "Output value"), title=range_finding(data), alt=alt, key="layers_output", caption=HISTOGRAM_KEY)


def _drawn(data: Histogram, axis: str) -> go.Figure:
    figure = histograms([data], palette(), axis)
    if data.before.max() > SPIKE_PERCENT:
        figure.update_yaxes(type="log", title="Share (%), log scale", tickformat="~g")
    return figure


def _channels(run: Mapping[str, Any], layer: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    channels = Channels.of(layer, arrays)
    if channels is None:
        _absent("Ranges of the output channels", "This run kept no channel ranges.")
        return
    colours = palette()
    figure = channels_figure(channels, backend_colour(run["backend"], colours), colours)
    title = channels_finding(channels)
    caption = "Bars: from the smallest to the largest float weight of each channel. Dotted: the range integers can represent."
    show(
        figure, title=title, alt=f"Ranges and scales of the channels of {layer['name']}", key="layers_channels", caption=caption
    )


def _codes(run: Mapping[str, Any], layer: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    codes = arrays.get(f"{layer['name']}|weight|codes")
    if codes is None:
        _absent("Use of the integer codes", "The weights of this layer are not stored as integers.")
        return
    colours = palette()
    figure = codes_figure(codes, layer["weight"]["qmin"], backend_colour(run["backend"], colours), colours)
    alt = f"How often each integer code occurs in the weights of {layer['name']}"
    show(figure, title=codes_finding(codes), alt=alt, key="layers_codes", caption="Each bar is one integer code.")


def _absent(title: str, reason: str) -> None:
    st.markdown(f"**{title}**")
    st.caption(f"{fmt.MISSING} {reason}")
