"""Charts of a single tensor that no other page needs: its channels' ranges and the codes it uses. Data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from pages._ui import format as fmt
from pages._ui.charts import bare
from pages._ui.charts_histogram import Histogram
from pages._ui.theme import Palette, template

Floats = NDArray[np.float64]
OUTLIER_TIMES = 3.0
"""A channel is an outlier when its largest |weight| is this many times the median channel's."""
NAMED = 5
"""Channels named in a title."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Per output channel [C]: the float weight's extremes, the representable range and the scale; the last two or None."""

    low: Floats
    high: Floats
    clip_low: Floats | None
    clip_high: Floats | None
    scale: Floats | None

    @classmethod
    def of(cls, layer: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Channels | None:
        """Reads a layer's channels; None when the run kept none."""
        name = f"{layer['name']}|weight"
        if f"{name}|channel_min" not in arrays:
            return None
        low, high = (arrays[f"{name}|{which}"].astype(np.float64) for which in ("channel_min", "channel_max"))
        clip_low, clip_high = _clip(arrays, name, low.shape)
        scale = layer["weight"].get("scale")
        spread = None if not scale or len(scale) not in (1, len(low)) else np.broadcast_to(np.array(scale), low.shape)
        return cls(low, high, clip_low, clip_high, spread)

    @property
    def reach(self) -> Floats:
        """Largest |weight| of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def outliers(self) -> NDArray[np.bool_]:
        return self.reach > OUTLIER_TIMES * np.median(self.reach)


def _clip(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> tuple[Floats | None, Floats | None]:
    if f"{name}|clip_low" in arrays:
        return arrays[f"{name}|clip_low"], arrays[f"{name}|clip_high"]
    if f"{name}|clip" in arrays:
        low, high = arrays[f"{name}|clip"]
        return np.full(shape, low), np.full(shape, high)
    return None, None


def calibrated_range(output: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """The range that an output's integers can represent; None when it stays in float."""
    if not output or not output.get("scale") or len(output["scale"]) > 1:
        return None
    scale, zero_point = output["scale"][0], output["zero_point"][0]
    return scale * (output["qmin"] - zero_point), scale * (output["qmax"] - zero_point)


def percent_beyond(edges: Floats, percent: Floats, limits: tuple[float, float]) -> float:
    """How much of a histogram lies in bins that are wholly outside of `limits`."""
    return float(percent[(edges[1:] <= limits[0]) | (edges[:-1] >= limits[1])].sum())


def range_finding(outputs: Histogram) -> str:
    """How the outputs met on evaluation samples fit the range that calibration set, as a title."""
    if outputs.clip is None:
        return "Outputs before and after: they stay in float"
    beyond = percent_beyond(outputs.edges, outputs.before, outputs.clip)
    if not beyond:
        return "Outputs before and after: the calibrated range holds them all"
    return f"Outputs before and after: {fmt.number(beyond, 2)}\u202f% lie beyond the calibrated range"


def channels_finding(channels: Channels) -> str:
    """What the channels' ranges say, as a title."""
    chosen = np.flatnonzero(channels.outliers)
    if not len(chosen):
        return f"The ranges of all {len(channels.reach)} channels are alike: none is {OUTLIER_TIMES:g}× the median"
    names = ", ".join(map(str, chosen[:NAMED])) + (", …" if len(chosen) > NAMED else "")
    verb = "reaches" if len(chosen) == 1 else "reach"
    which = f"channel{'s' if len(chosen) > 1 else ''} {names}"
    return f"{len(chosen)} of {len(channels.reach)} channels {verb} {OUTLIER_TIMES:g}× beyond the median: {which}"


def channels_figure(channels: Channels, colour: str, colours: Palette) -> go.Figure:
    """Float range of each channel over the range its integers can represent, and each channel's scale below."""
    panels = 1 if channels.scale is None else 2
    figure = make_subplots(
        rows=panels, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3][:panels], vertical_spacing=0.08 * (panels - 1)
    )
    number = np.arange(len(channels.low))
    marked = channels.outliers
    for name, chosen, fill in (("float range", ~marked, colour), ("outlier channel", marked, colours.worse)):
        if chosen.any():
            figure.add_bar(
                x=number[chosen],
                y=(channels.high - channels.low)[chosen],
                base=channels.low[chosen],
                name=name,
                marker={"color": fill, "line": {"width": 0}},
                customdata=np.stack([channels.low[chosen], channels.high[chosen]], axis=1),
                hovertemplate="channel %{x}<br>%{customdata[0]:.4g} to %{customdata[1]:.4g}<extra>" + name + "</extra>",
                row=1,
                col=1,
            )
    for name, edge in (("representable range", channels.clip_low), ("", channels.clip_high)):
        if edge is not None:
            figure.add_scatter(
                x=number,
                y=edge,
                mode="lines",
                line={"shape": "hvh", "color": colours.text, "width": 1, "dash": "dot"},
                name=name or "representable range",
                showlegend=bool(name),
                hovertemplate="channel %{x}<br>represents to %{y:.4g}<extra></extra>",
                row=1,
                col=1,
            )
    if channels.scale is not None:
        figure.add_scatter(
            x=number,
            y=channels.scale,
            mode="markers",
            marker={"color": colour, "size": 5},
            showlegend=False,
            hovertemplate="channel %{x}<br>scale %{y:.4g}<extra></extra>",
            row=2,
            col=1,
        )
        figure.update_yaxes(title="Scale", type="log", row=2, col=1)
    figure.update_layout(template=template(colours), height=400, bargap=0.15, barmode="overlay")
    figure.update_xaxes(title="Output channel", row=panels, col=1)
    figure.update_yaxes(title="Weight value", row=1, col=1)
    return figure


def codes_finding(codes: NDArray[np.int64]) -> str:
    """How much of the grid is used, as a title."""
    used = int(np.count_nonzero(codes))
    share = float(codes.max() / max(int(codes.sum()), 1))
    commonest = f"the commonest holds {fmt.percent(share)} of the weights"
    return f"{fmt.count(used)} of {fmt.count(len(codes))} codes are used; {commonest}"


def codes_figure(codes: NDArray[np.int64], qmin: int, colour: str, colours: Palette) -> go.Figure:
    """How often each integer code occurs.

    Args:
        codes: occurrences [qmax − qmin + 1] of each code from `qmin` up.
    """
    figure = bare(colours, 320)
    figure.add_bar(
        x=np.arange(qmin, qmin + len(codes)),
        y=codes,
        marker={"color": colour, "line": {"width": 0}},
        hovertemplate="code %{x}<br>%{y:,} weights<extra></extra>",
    )
    figure.update_layout(bargap=0)
    figure.update_xaxes(title="Integer code")
    figure.update_yaxes(title="Weights", rangemode="tozero")
    return figure
