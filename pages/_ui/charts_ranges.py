"""Ranges of activations against calibration: what each layer put out on evaluation samples, over what its integers can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pages._ui import format as fmt
from pages._ui.charts import bare
from pages._ui.charts_histogram import Histogram
from pages._ui.inspector_charts import calibrated_range, percent_beyond
from pages._ui.theme import Palette

WIDE = 2.0
"""A calibrated range this many times what was met wastes a bit of every activation."""
MANY = 10


@dataclass(frozen=True, slots=True)
class Range:
    """One layer's output: met on evaluation samples, set by calibration, and the percent of values beyond it."""

    layer: str
    met: tuple[float, float]
    set: tuple[float, float]
    beyond: float

    @property
    def slack(self) -> float:
        """Width of the calibrated range over that of what was met."""
        width = self.met[1] - self.met[0]
        return (self.set[1] - self.set[0]) / width if width else 1.0


def ranges(run: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> list[Range]:
    """The outputs on an integer grid whose histogram the run kept, in execution order."""
    found = []
    for layer in run["layers"]:
        data = Histogram.of(run, "", layer, arrays, "output")
        limits = calibrated_range(layer["output"]) if data else None
        if data is None or limits is None:
            continue
        filled = np.flatnonzero(data.before)
        met = float(data.edges[filled[0]]), float(data.edges[filled[-1] + 1])
        found.append(Range(layer["name"], met, limits, percent_beyond(data.edges, data.before, limits)))
    return found


def finding(found: Sequence[Range]) -> str:
    """How calibration fits what came later, as a title."""
    worst = max(found, key=lambda one: one.beyond)
    if worst.beyond > 0:
        return f"{fmt.number(worst.beyond, 2)}\u202f% of the outputs of {worst.layer} lie beyond what calibration allowed for"
    loosest = max(found, key=lambda one: one.slack)
    if loosest.slack >= WIDE:
        return f"{loosest.layer} uses {fmt.percent(1 / loosest.slack, 0)} of its calibrated range"
    return "What calibration allowed for holds all outputs, with little to spare"


def ranges_figure(found: Sequence[Range], colour: str, colours: Palette) -> go.Figure:
    """A bar a layer from the smallest to the largest output, and the bounds that calibration set as ticks."""
    figure = bare(colours, 320)
    names = [one.layer for one in found]
    figure.add_bar(
        x=names,
        y=[one.met[1] - one.met[0] for one in found],
        base=[one.met[0] for one in found],
        name="met on evaluation samples",
        marker={"color": colour, "line": {"width": 0}},
        customdata=[one.met for one in found],
        hovertemplate="<b>%{x}</b><br>%{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>",
    )
    for side, shown in ((0, True), (1, False)):
        figure.add_scatter(
            x=names,
            y=[one.set[side] for one in found],
            mode="markers",
            marker={"symbol": "line-ew", "size": 22, "line": {"color": colours.text, "width": 2}},
            name="set by calibration",
            showlegend=shown,
            hovertemplate="<b>%{x}</b><br>calibration allows to %{y:.4g}<extra></extra>",
        )
    figure.update_layout(bargap=0.5, hovermode="closest")
    figure.update_xaxes(type="category", showgrid=False, tickangle=-35 if len(names) > MANY else 0)
    return figure.update_yaxes(title="Output value")
