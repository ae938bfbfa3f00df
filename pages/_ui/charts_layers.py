"""Error layer by layer: one line a run in execution order, and the same figures as a heat map of layers × runs.

Whatever the figure, a cell also has a level in dB, which orders layers and colours cells: a cosine c counts as the SQNR of a
small error at right angles, 1 ÷ (2(1 − c)), to which it is equal in the limit of no error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pages._ui.charts import bare
from pages._ui.metrics import Run
from pages._ui.theme import Palette, backend_colour, mark

Floats = NDArray[np.float64]
CELL_HEIGHT = 30
DARKEST, LIGHTEST = 5.0, 65.0
"""SQNR in dB at the ends of the colour scale, the same in every heat map: from 1-bit weights to float16."""
CEILING = 80.0
"""dB; above it only float rounding differs, and lines are drawn at it."""
LONG_NAME = 14
DASHES = ("solid", "dot", "dash", "dashdot", "longdash", "longdashdot")


class Part(StrEnum):
    """Whose error: an output's with everything before it quantized too, a weight's, or an output's with a float input."""

    OUTPUT = "output"
    WEIGHT = "weight"
    ISOLATED = "isolated"
    WEIGHT_ONLY = "by its weight"
    ACTIVATION_ONLY = "by its activations"


class Figure(StrEnum):
    SQNR = "SQNR"
    COSINE = "cosine"


class Order(StrEnum):
    EXECUTION = "execution"
    WORST = "worst first"


_ISOLATED = {Part.ISOLATED: "both", Part.WEIGHT_ONLY: "weight_only", Part.ACTIVATION_ONLY: "activation_only"}
MEANINGS = {
    Part.OUTPUT: "Of the output, cumulative: every layer before it is quantized too.",
    Part.WEIGHT: "Of the weight itself, which no input has met.",
    Part.ISOLATED: "Of the output when only this layer is quantized and its input is float.",
    Part.WEIGHT_ONLY: "Of the output when only this layer's weight is quantized.",
    Part.ACTIVATION_ONLY: "Of the output when only this layer's input and output are quantized.",
}
_FIGURES = {
    Figure.SQNR: "Signal to quantization noise: power of the float values over the power of their error, in decibels; "
    "6 dB is one bit.",
    Figure.COSINE: "Cosine of the angle between float and quantized values; 1 is no error.",
}
NOT_KEPT = "not in this run"
NO_ERROR = ("exact", "stays float", "no such layer")
"""Reasons why a cell has no figure that do not leave open what it would be."""
SHORT = 14
"""Letters of a reason that fit a cell; a longer one is shown on hover."""


@dataclass(frozen=True, eq=False)
class LayerErrors:
    """One figure of every layer in every run.

    Attributes:
        layers: names in execution order; what only later runs have follows what the first run has.
        runs: the runs, in the order they are compared in.
        level: dB, [layers, runs]; NaN where a run has no such layer or no error.
        values: the figure itself, [layers, runs]; the same as `level` for SQNR.
        reasons: why a cell is NaN: "exact", "stays float", "no such layer".
    """

    layers: tuple[str, ...]
    runs: tuple[Run, ...]
    level: Floats
    values: Floats
    reasons: tuple[tuple[str, ...], ...]
    part: Part
    figure: Figure

    @classmethod
    def of(cls, runs: Sequence[Run], part: Part, figure: Figure = Figure.SQNR) -> LayerErrors:
        """Reads the errors of runs that carry their layers."""
        layers = tuple(dict.fromkeys(layer["name"] for run in runs for layer in run["layers"]))
        found = [{layer["name"]: layer for layer in run["layers"]} for run in runs]
        cells = [[_cell(by_name.get(name), part, figure) for by_name in found] for name in layers]
        values = np.array([[value for value, _ in row] for row in cells], np.float64).reshape(len(layers), len(runs))
        reasons = tuple(tuple(why for _, why in row) for row in cells)
        return cls(layers, tuple(runs), _level(values, figure), values, reasons, part, figure)

    def sorted(self, order: Order) -> LayerErrors:
        """The same, with the layer of the largest error in any run first when `order` asks for it."""
        if order is Order.EXECUTION or not self.layers:
            return self
        lowest = np.nanmin(np.where(np.isnan(self.level), np.inf, self.level), axis=1)
        ranks = np.argsort(lowest, kind="stable")
        layers, reasons = tuple(self.layers[rank] for rank in ranks), tuple(self.reasons[rank] for rank in ranks)
        return replace(self, layers=layers, level=self.level[ranks], values=self.values[ranks], reasons=reasons)

    def worst(self) -> tuple[str, int] | None:
        """The layer and the index of the run with the largest error; None when nothing has one."""
        if np.isnan(self.level).all():
            return None
        row, column = divmod(int(np.nanargmin(self.level)), len(self.runs))
        return self.layers[row], column

    def text(self, row: int, column: int) -> str:
        """A cell in full: the figure with its unit, or the reason why there is none."""
        value = self.values[row, column]
        if np.isnan(value):
            return self.reasons[row][column]
        return f"{value:.1f} dB" if self.figure is Figure.SQNR else f"{value:.6g}"

    @property
    def meaning(self) -> str:
        return f"{_FIGURES[self.figure]} {MEANINGS[self.part]}"


def _level(values: Floats, figure: Figure) -> Floats:
    if figure is Figure.SQNR:
        return values
    found: Floats = -10 * np.log10(2 * np.maximum(1 - values, np.finfo(np.float64).eps))
    return found


def errors_of(layer: Run, part: Part) -> tuple[Run, str]:
    """The error report of one part of a layer, and why it is empty when it is."""
    if part not in _ISOLATED:
        return layer.get(part.value) or {}, str(layer.get(f"{part.value}_why_not") or _why_exact(layer))
    isolated = layer.get("isolated") or {}
    kind = _ISOLATED[part]
    why_not = isolated.get(f"{kind}_why_not") or layer.get("isolated_why_not") or NOT_KEPT
    return isolated.get(kind) or {}, str(why_not)


def _why_exact(layer: Run) -> str:
    return "" if layer["quantized"] else "stays float"


def _cell(layer: Run | None, part: Part, figure: Figure) -> tuple[float, str]:
    if layer is None:
        return np.nan, "no such layer"
    report, why_not = errors_of(layer, part)
    name = "sqnr_db" if figure is Figure.SQNR else "cosine"
    exact = report.get("sqnr_db_why_not") == "exact"
    if report.get(name) is not None and not exact:
        return float(report[name]), ""
    return np.nan, str("exact" if exact else report.get(f"{name}_why_not") or why_not or "not measured")


def error_lines(errors: LayerErrors, names: Mapping[str, str], colours: Palette, chosen: str | None) -> go.Figure:
    """One line a run; what has no error has no mark. Clicking a mark chooses its layer (in `customdata`)."""
    figure = bare(colours, 300)
    dashes: dict[str, int] = {}
    for column, run in enumerate(errors.runs):
        if np.isnan(errors.level[:, column]).all():
            continue
        turn = dashes.get(run["backend"], 0)
        dashes[run["backend"]] = turn + 1
        colour, name = backend_colour(run["backend"], colours), names[run["run_id"]]
        figure.add_scatter(
            x=list(errors.layers),
            y=_drawn(errors, column),
            mode="lines+markers",
            connectgaps=True,
            line={"color": colour, "width": 1.5, "dash": DASHES[turn % len(DASHES)]},
            marker={"symbol": mark(run["technique"]), "size": 8, "color": colour},
            customdata=list(errors.layers),
            text=[errors.text(row, column) for row in range(len(errors.layers))],
            name=name,
            hovertemplate=f"<b>%{{x}}</b><br>{name}: %{{text}}<extra></extra>",
        )
    if chosen in errors.layers:
        at = errors.layers.index(chosen)
        figure.add_vrect(at - 0.5, at + 0.5, fillcolor=colours.accent, opacity=0.12, line_width=0, layer="below")
    figure.update_xaxes(type="category", showgrid=False, tickangle=-35 if _long(errors.layers) else 0)
    if errors.figure is Figure.SQNR:
        figure.update_yaxes(title="SQNR (dB)")
    else:
        figure.update_yaxes(title="1 − cosine", type="log", exponentformat="power", dtick=1)
    # A legend on a narrow screen takes a line a run, out of the height of the plot.
    return figure.update_layout(hovermode="closest", margin={"t": 48}, height=300 + 10 * len(figure.data))


def _drawn(errors: LayerErrors, column: int) -> Floats:
    if errors.figure is Figure.SQNR:
        return np.minimum(errors.level[:, column], CEILING)
    return np.maximum(1 - errors.values[:, column], np.finfo(np.float64).eps)


def heat_map(errors: LayerErrors, names: Mapping[str, str], colours: Palette, chosen: str | None) -> go.Figure:
    """Layers down, runs across, dark = large error. Each cell carries its figure as text, and its layer in `customdata`."""
    figure = bare(colours, 120 + CELL_HEIGHT * len(errors.layers))
    figure.add_heatmap(
        z=errors.level,
        zmin=DARKEST,
        zmax=LIGHTEST,
        colorscale=[[index / (len(colours.error) - 1), colour] for index, colour in enumerate(reversed(colours.error))],
        showscale=False,
        xgap=2,
        ygap=2,
        hoverinfo="skip",
    )
    figure.add_trace(_cells(errors, names, colours))
    titles = [names[run["run_id"]].replace(" · ", "<br>") for run in errors.runs]
    ink = {"color": colours.text, "size": 11}
    figure.update_xaxes(side="top", tickvals=list(range(len(titles))), ticktext=titles, autotickangles=[0, 90], tickfont=ink)
    figure.update_yaxes(
        autorange="reversed", tickvals=list(range(len(errors.layers))), ticktext=list(errors.layers), tickfont=ink
    )
    figure.update_xaxes(range=[-0.5, len(titles) - 0.5])
    if chosen in errors.layers:
        at = errors.layers.index(chosen)
        figure.add_hrect(at - 0.5, at + 0.5, line={"color": colours.text, "width": 1.5}, fillcolor="rgba(0,0,0,0)")
    return figure.update_layout({axis: {"showgrid": False, "fixedrange": True} for axis in ("xaxis", "yaxis")})


def _cells(errors: LayerErrors, names: Mapping[str, str], colours: Palette) -> go.Scatter:
    """Text and clickable marks of every cell. A heat map cannot be clicked itself: these transparent marks lie over it."""
    places = [(row, column) for row in range(len(errors.layers)) for column in range(len(errors.runs))]
    spread = [(row, column, shift) for row, column in places for shift in (0.0, -0.33, 0.33)]
    return go.Scatter(
        x=[column + shift for _, column, shift in spread],
        y=[row for row, _, _ in spread],
        mode="markers+text",
        marker={"symbol": "square", "size": CELL_HEIGHT - 4, "color": "rgba(0,0,0,0)"},
        text=["" if shift else _figure(errors, row, column) for row, column, shift in spread],
        textfont={"size": 12, "color": [_ink(errors.level[row, column], colours) for row, column, _ in spread]},
        customdata=[errors.layers[row] for row, _, _ in spread],
        hovertext=[
            f"<b>{errors.layers[row]}</b><br>{names[errors.runs[column]['run_id']]}<br>{errors.text(row, column)}"
            for row, column, _ in spread
        ],
        hoverinfo="text",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _figure(errors: LayerErrors, row: int, column: int) -> str:
    text = errors.text(row, column)
    if np.isnan(errors.values[row, column]):
        return text if len(text) < SHORT else "–"
    return text.removesuffix(" dB") if errors.figure is Figure.SQNR else f"{errors.values[row, column]:.5f}"


def _ink(value: float, colours: Palette) -> str:
    """Text that can be read on the cell's colour."""
    if np.isnan(value):
        return colours.muted
    return "#FFFFFF" if value < DARKEST + 0.4 * (LIGHTEST - DARKEST) else "#1B1D21"


def caption(errors: LayerErrors) -> str:
    """How to read the lines."""
    if errors.figure is Figure.COSINE:
        return "Lower is better."
    beyond = bool(np.nanmax(errors.level, initial=0.0) > CEILING)
    return "Higher is better." + (
        f" What lies above {CEILING:.0f} dB is drawn there: only float rounding differs." if beyond else ""
    )


def _long(layers: Sequence[str]) -> bool:
    return len(layers) * max(map(len, layers), default=0) > 6 * LONG_NAME


def title(errors: LayerErrors, names: Mapping[str, str]) -> str:
    """The finding: which layer loses most, and where."""
    worst = errors.worst()
    what = errors.part.value if errors.part in (Part.OUTPUT, Part.WEIGHT) else "output"
    if worst is None:
        if any(NOT_KEPT in row for row in errors.reasons):
            return "These runs kept no error of single layers by themselves: run them again to have it"
        if any(reason not in NO_ERROR for row in errors.reasons for reason in row):
            return f"These runs have no error of any layer's {what}"
        return f"No layer's {what} differs from float in these runs"
    layer, column = worst
    found = errors.text(errors.layers.index(layer), column)
    alone = "" if errors.part in (Part.OUTPUT, Part.WEIGHT) else f", {errors.part.value}"
    keeps = f"keeps {found}" if errors.figure is Figure.SQNR else f"has a cosine of {found}"
    return f"{layer} loses most{alone}: its {what} {keeps} in {names[errors.runs[column]['run_id']]}"
