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

CELL_HEIGHT = 30
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
    figure = bare(colours, 340)
    dashes: dict[str, int] = {}
    for column, run in enumerate(errors.runs):
        if np.isnan(errors.sqnr[:, column]).all():
            continue
        turn = dashes.get(run["backend"], 0)
        dashes[run["backend"]] = turn + 1
        colour, name = backend_colour(run["backend"], colours), names[run["run_id"]]
        figure.add_scatter(
            x=list(errors.layers),
            y=errors.sqnr[:, column],
            mode="lines+markers",
            connectgaps=True,
            line={"color": colour, "width": 1.5, "dash": DASHES[turn % len(DASHES)]},
            marker={"symbol": mark(run["technique"]), "size": 8, "color": colour},
            customdata=list(errors.layers),
            name=name,
            hovertemplate=f"<b>%{{x}}</b><br>{name}: %{{y:.1f}} dB<extra></extra>",
        )
    if chosen in errors.layers:
        at = errors.layers.index(chosen)
        figure.add_vrect(at - 0.5, at + 0.5, fillcolor=colours.accent, opacity=0.12, line_width=0, layer="below")
    figure.update_xaxes(type="category", showgrid=False, tickangle=-35 if _long(errors.layers) else 0)
    figure.update_yaxes(title="SQNR (dB), higher is better")
    return figure.update_layout(hovermode="closest", margin={"t": 48})


def heat_map(errors: LayerErrors, names: Mapping[str, str], colours: Palette, chosen: str | None) -> go.Figure:
    """Layers down, runs across, dark = large error. Each cell carries its figure as text, and its layer in `customdata`."""
    figure = bare(colours, 120 + CELL_HEIGHT * len(errors.layers))
    titles = [names[run["run_id"]].replace(" · ", "<br>").replace(" ", "<br>") for run in errors.runs]
    figure.add_heatmap(
        z=errors.sqnr,
        x=titles,
        y=list(errors.layers),
        colorscale=[[index / (len(colours.error) - 1), colour] for index, colour in enumerate(reversed(colours.error))],
        showscale=False,
        xgap=2,
        ygap=2,
        hoverinfo="skip",
    )
    low, high = _span(errors.sqnr)
    cells = [(row, column) for row in range(len(errors.layers)) for column in range(len(errors.runs))]
    figure.add_scatter(
        x=[titles[column] for _, column in cells],
        y=[errors.layers[row] for row, _ in cells],
        mode="markers+text",
        # The heat map itself cannot be clicked; these marks of its cells can, and Plotly must be able to hit them.
        marker={"symbol": "square", "size": CELL_HEIGHT - 4, "color": "rgba(0,0,0,0)"},
        text=[_figure(errors, row, column) for row, column in cells],
        textfont={"size": 12, "color": [_ink(errors.sqnr[cell], low, high, colours) for cell in cells]},
        customdata=[errors.layers[row] for row, _ in cells],
        hovertext=[f"<b>{errors.layers[row]}</b><br>{names[errors.runs[column]['run_id']]}" for row, column in cells],
        hovertemplate="%{hovertext}<br>%{text}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )
    figure.update_xaxes(
        side="top", type="category", showgrid=False, tickangle=0, tickfont={"color": colours.text, "size": 11}, fixedrange=True
    )
    figure.update_yaxes(
        autorange="reversed", type="category", showgrid=False, fixedrange=True, tickfont={"color": colours.text}
    )
    if chosen in errors.layers:
        at = errors.layers.index(chosen)
        figure.add_hrect(at - 0.5, at + 0.5, line={"color": colours.text, "width": 1.5}, fillcolor="rgba(0,0,0,0)")
    return figure


def _figure(errors: LayerErrors, row: int, column: int) -> str:
    value = errors.sqnr[row, column]
    return errors.reasons[row][column] if np.isnan(value) else f"{value:.1f}"


def _span(values: NDArray[np.float64]) -> tuple[float, float]:
    return (0.0, 1.0) if np.isnan(values).all() else (float(np.nanmin(values)), float(np.nanmax(values)))


def _ink(value: float, low: float, high: float, colours: Palette) -> str:
    """Text that can be read on the cell's colour."""
    if np.isnan(value):
        return colours.muted
    share = (high - value) / (high - low) if high > low else 0.0
    return "#FFFFFF" if share > 0.5 else "#1B1D21"


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
