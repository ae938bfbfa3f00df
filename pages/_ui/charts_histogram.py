"""Histograms before and after, small multiples on one x-axis: float in grey behind, dequantized in the backend's colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from pages._ui.theme import Palette, backend_colour, template

FEW_LEVELS = 32
ROW_HEIGHT = 132
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Histogram:
    """One tensor before and after.

    Attributes:
        edges: bin edges [B + 1].
        before, after: share of all values in each bin, percent [B].
        clip: the representable range, the widest where channels differ; None in float.
        levels: the values the grid has, where there are few and all channels share them.
    """

    name: str
    backend: str
    edges: Floats
    before: Floats
    after: Floats
    clip: tuple[float, float] | None = None
    levels: Floats | None = None

    @classmethod
    def of(
        cls,
        run: Mapping[str, Any],
        name: str,
        layer: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        part: str = "weight",
    ) -> Histogram | None:
        """Reads the histogram of a layer's weight or output; None when the run kept none."""
        key = f"{layer['name']}|{part}"
        if f"{key}|edges" not in arrays:
            return None
        before, after = (_percent(arrays[f"{key}|{which}"]) for which in ("float", "quantized"))
        return cls(
            name=name,
            backend=run["backend"],
            edges=arrays[f"{key}|edges"],
            before=before,
            after=after,
            clip=_clip(arrays, key),
            levels=grid(layer.get(part) or {}),
        )


def _percent(counts: NDArray[Any]) -> Floats:
    result: Floats = 100 * counts / max(int(counts.sum()), 1)
    return result


def _clip(arrays: Mapping[str, NDArray[Any]], key: str) -> tuple[float, float] | None:
    if f"{key}|clip" in arrays:
        low, high = arrays[f"{key}|clip"]
        return float(low), float(high)
    if f"{key}|clip_low" in arrays:
        return float(arrays[f"{key}|clip_low"].min()), float(arrays[f"{key}|clip_high"].max())
    return None


def grid(tensor: Mapping[str, Any]) -> Floats | None:
    """Every value a tensor's grid can represent, where it is one grid of at most 32 levels."""
    scales, low, high = tensor.get("scale"), tensor.get("qmin"), tensor.get("qmax")
    if not scales or len(scales) != 1 or low is None or high is None or high - low >= FEW_LEVELS:
        return None
    values: Floats = scales[0] * (np.arange(low, high + 1) - tensor["zero_point"][0])
    return values


def histograms(rows: Sequence[Histogram], colours: Palette, axis: str = "Weight value") -> go.Figure:
    """One row a histogram, all on the x-axis called `axis`."""
    figure = make_subplots(
        rows=len(rows),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.28 / max(len(rows), 1) ** 1.2,
        subplot_titles=[row.name for row in rows],
    )
    for number, row in enumerate(rows, start=1):
        _draw(figure, number, row, colours)
    figure.update_layout(template=template(colours), height=90 + ROW_HEIGHT * len(rows), showlegend=False, bargap=0)
    figure.update_annotations(x=0, xanchor="left", font={"size": 12})
    for annotation, row in zip(figure.layout.annotations, rows, strict=False):
        annotation.font.color = backend_colour(row.backend, colours)
    figure.update_yaxes(title="Share (%)", rangemode="tozero", nticks=4)
    figure.update_xaxes(title_text=axis, row=len(rows), col=1)
    return figure


def _draw(figure: go.Figure, number: int, row: Histogram, colours: Palette) -> None:
    colour = backend_colour(row.backend, colours)
    middles, widths = (row.edges[:-1] + row.edges[1:]) / 2, np.diff(row.edges)
    figure.add_bar(
        x=middles,
        y=row.before,
        width=widths,
        marker={"color": colours.reference, "opacity": 0.45, "line": {"width": 0}},
        hovertemplate="float: %{y:.2f} % near %{x:.4g}<extra></extra>",
        row=number,
        col=1,
    )
    figure.add_scatter(
        x=row.edges,
        y=np.append(row.after, row.after[-1:]),
        mode="lines",
        line={"color": colour, "width": 1.5, "shape": "hv"},
        hovertemplate="dequantized: %{y:.2f} % near %{x:.4g}<extra></extra>",
        row=number,
        col=1,
    )
    figure.add_vline(0, line={"color": colours.muted, "width": 1}, row=number, col=1)
    for level in row.levels if row.levels is not None else ():
        figure.add_vline(level, line={"color": colour, "width": 0.5}, opacity=0.5, row=number, col=1)
    for bound in row.clip or ():
        figure.add_vline(bound, line={"color": colour, "width": 1.5, "dash": "dash"}, row=number, col=1)
