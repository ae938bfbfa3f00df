"""Error layer by layer: one line a run in execution order, and the same figures as a heat map of layers × runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pages._ui.charts import bare
from pages._ui.metrics import Run
from pages._ui.theme import Palette, backend_colour, mark

SQNR_MEANING = (
    "Signal to quantization noise: power of the float values over the power of their error, in decibels. 6 dB is one bit. "
    "Of the output, every layer before it is quantized too."
)
CELL_HEIGHT = 30
DARKEST, LIGHTEST = 5.0, 65.0
"""SQNR in dB at the ends of the colour scale, the same in every heat map: from 1-bit weights to float16."""
CEILING = 80.0
"""dB; above it only float rounding differs, and lines are drawn at it."""
LONG_NAME = 14
DASHES = ("solid", "dot", "dash", "dashdot", "longdash", "longdashdot")


class Part(StrEnum):
    OUTPUT = "output"
    WEIGHT = "weight"


class Order(StrEnum):
    EXECUTION = "execution"
    WORST = "worst first"


@dataclass(frozen=True, eq=False)
class LayerErrors:
    """SQNR of every layer in every run.

    Attributes:
        layers: names in execution order; what only later runs have follows what the first run has.
        runs: the runs, in the order they are compared in.
        sqnr: dB, [layers, runs]; NaN where a run has no such layer or no error.
        reasons: why a cell is NaN: "exact", "stays float", "no such layer".
    """

    layers: tuple[str, ...]
    runs: tuple[Run, ...]
    sqnr: NDArray[np.float64]
    reasons: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, runs: Sequence[Run], part: Part) -> LayerErrors:
        """Reads the errors of runs that carry their layers."""
        layers = tuple(dict.fromkeys(layer["name"] for run in runs for layer in run["layers"]))
        found = [{layer["name"]: layer for layer in run["layers"]} for run in runs]
        cells = [[_cell(by_name.get(name), part) for by_name in found] for name in layers]
        sqnr = np.array([[value for value, _ in row] for row in cells], np.float64).reshape(len(layers), len(runs))
        return cls(layers, tuple(runs), sqnr, tuple(tuple(why for _, why in row) for row in cells))

    def sorted(self, order: Order) -> LayerErrors:
        """The same, with the layer of the lowest SQNR in any run first when `order` asks for it."""
        if order is Order.EXECUTION or not self.layers:
            return self
        lowest = np.nanmin(np.where(np.isnan(self.sqnr), np.inf, self.sqnr), axis=1)
        ranks = np.argsort(lowest, kind="stable")
        layers, reasons = tuple(self.layers[rank] for rank in ranks), tuple(self.reasons[rank] for rank in ranks)
        return LayerErrors(layers, self.runs, self.sqnr[ranks], reasons)

    def worst(self) -> tuple[str, int] | None:
        """The layer and the index of the run with the lowest SQNR; None when nothing has an error."""
        if np.isnan(self.sqnr).all():
            return None
        row, column = divmod(int(np.nanargmin(self.sqnr)), len(self.runs))
        return self.layers[row], column


def _cell(layer: Run | None, part: Part) -> tuple[float, str]:
    if layer is None:
        return np.nan, "no such layer"
    tensor = layer.get(part.value) or {}
    if tensor.get("sqnr_db") is not None:
        return float(tensor["sqnr_db"]), ""
    return np.nan, str(tensor.get("sqnr_db_why_not") or ("stays float" if not layer["quantized"] else "not measured"))


def error_lines(errors: LayerErrors, names: Mapping[str, str], colours: Palette, chosen: str | None) -> go.Figure:
    """One line a run; what has no error has no mark. Clicking a mark chooses its layer (in `customdata`)."""
    figure = bare(colours, 300)
    dashes: dict[str, int] = {}
    for column, run in enumerate(errors.runs):
        if np.isnan(errors.sqnr[:, column]).all():
            continue
        turn = dashes.get(run["backend"], 0)
        dashes[run["backend"]] = turn + 1
        colour, name = backend_colour(run["backend"], colours), names[run["run_id"]]
        figure.add_scatter(
            x=list(errors.layers),
            y=np.minimum(errors.sqnr[:, column], CEILING),
            mode="lines+markers",
            connectgaps=True,
            line={"color": colour, "width": 1.5, "dash": DASHES[turn % len(DASHES)]},
            marker={"symbol": mark(run["technique"]), "size": 8, "color": colour},
            customdata=list(errors.layers),
            text=[f"{value:.1f} dB" for value in errors.sqnr[:, column]],
            name=name,
            hovertemplate=f"<b>%{{x}}</b><br>{name}: %{{text}}<extra></extra>",
        )
    if chosen in errors.layers:
        at = errors.layers.index(chosen)
        figure.add_vrect(at - 0.5, at + 0.5, fillcolor=colours.accent, opacity=0.12, line_width=0, layer="below")
    figure.update_xaxes(type="category", showgrid=False, tickangle=-35 if _long(errors.layers) else 0)
    figure.update_yaxes(title="SQNR (dB)")
    # A legend on a narrow screen takes a line a run, out of the height of the plot.
    return figure.update_layout(hovermode="closest", margin={"t": 48}, height=300 + 10 * len(figure.data))


def heat_map(errors: LayerErrors, names: Mapping[str, str], colours: Palette, chosen: str | None) -> go.Figure:
    """Layers down, runs across, dark = large error. Each cell carries its figure as text, and its layer in `customdata`."""
    figure = bare(colours, 120 + CELL_HEIGHT * len(errors.layers))
    figure.add_heatmap(
        z=errors.sqnr,
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
        textfont={"size": 12, "color": [_ink(errors.sqnr[row, column], colours) for row, column, _ in spread]},
        customdata=[errors.layers[row] for row, _, _ in spread],
        hovertext=[
            f"<b>{errors.layers[row]}</b><br>{names[errors.runs[column]['run_id']]}<br>{_figure(errors, row, column)}"
            for row, column, _ in spread
        ],
        hoverinfo="text",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _figure(errors: LayerErrors, row: int, column: int) -> str:
    value = errors.sqnr[row, column]
    return errors.reasons[row][column] if np.isnan(value) else f"{value:.1f}"


def _ink(value: float, colours: Palette) -> str:
    """Text that can be read on the cell's colour."""
    if np.isnan(value):
        return colours.muted
    return "#FFFFFF" if value < DARKEST + 0.4 * (LIGHTEST - DARKEST) else "#1B1D21"


def caption(errors: LayerErrors) -> str:
    """How to read the lines."""
    beyond = bool(np.nanmax(errors.sqnr, initial=0.0) > CEILING)
    return "Higher is better." + (
        f" What lies above {CEILING:.0f} dB is drawn there: only float rounding differs." if beyond else ""
    )


def _long(layers: Sequence[str]) -> bool:
    return len(layers) * max(map(len, layers), default=0) > 6 * LONG_NAME


def title(errors: LayerErrors, names: Mapping[str, str], part: Part) -> str:
    """The finding: which layer loses most, and where."""
    worst = errors.worst()
    if worst is None:
        return f"No layer's {part.value} differs from float in these runs"
    layer, column = worst
    sqnr = np.nanmin(errors.sqnr)
    return f"{layer} loses most: its {part.value} keeps {sqnr:.1f} dB in {names[errors.runs[column]['run_id']]}"
