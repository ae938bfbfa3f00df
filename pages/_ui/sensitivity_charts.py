"""Charts of an analysis: the loss of each layer at one width, and the frontier of mixed precision. Data in, figure out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from benchmarks.sensitivity.report import Metric
from experiments.frontier import Objective
from pages._ui import format as fmt
from pages._ui.charts import bare
from pages._ui.sensitivity import LOSS_TITLES, level, loss_words, price
from pages._ui.theme import Palette

ROW = 22
FEW = 6
DECADE = 10.0
"""Losses that span more are drawn on a log axis."""
FEW_DECADES = 3.0
SHORT = 4
"""Powers of ten from which on a number is written as one."""


def ranked_bars(losses: Sequence[tuple[str, float]], metric: Metric, colours: Palette, chosen: str | None) -> go.Figure:
    """A bar a layer, the first on top; those of no loss have none. `customdata` carries the layer."""
    names, values = [name for name, _ in losses], [loss for _, loss in losses]
    figure = bare(colours, 90 + ROW * len(losses))
    figure.add_bar(
        x=values,
        y=names,
        orientation="h",
        marker={"color": [colours.accent if name == chosen else colours.error[4] for name in names], "line": {"width": 0}},
        customdata=names,
        hovertemplate="<b>%{y}</b><br>%{x:.4g}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, tickfont={"color": colours.text, "size": 12}, type="category")
    figure.update_xaxes(title=LOSS_TITLES[metric], side="top", **_scale(values))
    return figure.update_layout(bargap=0.25, margin={"t": 8})


def in_order(losses: Sequence[tuple[str, float]], metric: Metric, colours: Palette, chosen: str | None) -> go.Figure:
    """The same in execution order, from left to right."""
    names, values = [name for name, _ in losses], [loss for _, loss in losses]
    figure = bare(colours, 340)
    figure.add_bar(
        x=names,
        y=values,
        marker={"color": [colours.accent if name == chosen else colours.error[4] for name in names], "line": {"width": 0}},
        customdata=names,
        hovertemplate="<b>%{x}</b><br>%{y:.4g}<extra></extra>",
    )
    figure.update_xaxes(type="category", showgrid=False, tickangle=-35 if len(names) > DECADE else 0)
    return figure.update_yaxes(title=LOSS_TITLES[metric], **_scale(values))


def _scale(values: Sequence[float]) -> dict[str, Any]:
    positive = [value for value in values if value > 0]
    wide = len(positive) == len(values) and max(positive) > DECADE * min(positive)
    return _log_axis(values) if wide else {"type": "linear"}


def frontier(document: Mapping[str, Any], colours: Palette, chosen: Mapping[str, Any] | None) -> go.Figure:
    """Cost × loss: predicted as a hollow line, measured as marks, uniform widths as labelled squares, the choice ringed."""
    figure = bare(colours, 400)
    name = "bytes" if document["objective"] == Objective.BYTES.value else "bit_operations"
    unit = 1e3 if name == "bytes" else 1e6
    metric = Metric(document["metric"])

    def add(points: Sequence[Mapping[str, Any]], loss: str, title: str, **look: Any) -> None:
        shown = [point for point in points if level(document, point[loss]) is not None]
        figure.add_scatter(
            x=[point[name] / unit for point in shown],
            y=[level(document, point[loss]) for point in shown],
            name=title,
            customdata=[point["technique"] for point in shown],
            hovertext=[
                f"{price(point[name], document['objective'])}<br>{loss_words(document, point[loss])}" for point in shown
            ],
            hovertemplate=f"{title}<br>%{{hovertext}}<extra></extra>",
            **look,
        )

    dashed = {"color": colours.reference, "width": 1.5, "dash": "dot"}
    hollow = {"symbol": "circle-open", "size": 8, "color": colours.reference}
    add(document["points"], "predicted_loss", "predicted", mode="lines+markers", line=dashed, marker=hollow)
    filled = {"symbol": "circle", "size": 9, "color": colours.accent}
    line = {"color": colours.accent, "width": 1.5}
    add(document["points"], "measured_loss", "measured", mode="lines+markers", line=line, marker=filled)
    uniform = [point for point in document["uniform"] if level(document, point["measured_loss"]) is not None]
    labels = [f"all {next(iter(point['bits'].values()))} bits" for point in uniform]
    square = {"symbol": "square", "size": 9, "color": colours.worse}
    # The costliest stands at the right edge: its label goes where there is room.
    costliest = max((point[name] for point in uniform), default=0)
    sides = ["top left" if point[name] == costliest else "bottom right" for point in uniform]
    look = {"mode": "markers+text", "text": labels, "textposition": sides, "marker": square}
    add(uniform, "measured_loss", "one width for all", **look)
    if chosen is not None:
        loss = "predicted_loss" if chosen["measured_loss"] is None else "measured_loss"
        ring = {"symbol": "circle-open", "size": 18, "color": colours.text, "line": {"width": 2}}
        add([chosen], loss, "your budget", mode="markers", marker=ring)
    figure.update_xaxes(title="Size (KB)" if name == "bytes" else "Bit-operations (million)")
    figure.update_xaxes(**_log_axis([point[name] / unit for point in (*document["points"], *document["uniform"])]))
    figure.update_yaxes(title="SQNR of the output (dB), higher is better" if metric is Metric.SQNR else LOSS_TITLES[metric])
    return figure


def _log_axis(shown: Sequence[float]) -> dict[str, Any]:
    """A log axis with ticks at 1, 2 and 5 times powers of ten, or at powers alone where many fit; some room on both sides."""
    low, high = math.log10(min(shown)), math.log10(max(shown))
    margin = max(high - low, 0.1)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [(digit, power) for power in powers for digit in ((1, 2, 5) if high - low < FEW_DECADES else (1,))]
    span = [low - 0.05 * margin, high + 0.05 * margin]
    values = [digit * DECADE**power for digit, power in ticks]
    words = [f"{digit * DECADE**power:g}" if abs(power) < SHORT else f"{digit}·10<sup>{power}</sup>" for digit, power in ticks]
    return {"type": "log", "range": span, "tickvals": values, "ticktext": words}


def bits_figure(bits: Mapping[str, int], colours: Palette) -> go.Figure:
    """The width of every layer of a choice, in execution order."""
    figure = bare(colours, 240)
    names = list(bits)
    figure.add_bar(
        x=names,
        y=list(bits.values()),
        text=[fmt.count(width) for width in bits.values()],
        marker={"color": colours.accent, "line": {"width": 0}},
        hovertemplate="<b>%{x}</b><br>%{y} bits<extra></extra>",
    )
    figure.update_layout(bargap=0.2 if len(names) > FEW else 0.7)
    figure.update_xaxes(type="category", showgrid=False, tickangle=-35 if len(names) > DECADE else 0)
    return figure.update_yaxes(title="Bits", tickvals=[2, 4, 8, 16], rangemode="tozero")
