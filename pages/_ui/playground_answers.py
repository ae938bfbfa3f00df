"""What the playground shows of a choice, from a tensor's sketches: data in, drawings, figures and sentences out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from benchmarks.size import SCALE_BYTES, ZERO_POINT_BYTES
from pages._ui import format as fmt
from pages._ui.charts_histogram import FEW_LEVELS
from pages._ui.drag import Drawing
from quantizers.numerics import IDEAL_RMSE_PER_STEP, covered, grid
from quantizers.schema import Granularity, Scheme
from quantizers.sketch import GROUP_SIZES, Clip, Estimate, Question, Sketch, sketch_key
from quantizers.sketch_file import TensorSummary

BARS = 128
MARGIN = 0.04
"""Of the width, free at either end for the marks."""
FLOOR = 0.02
"""Height of a bar that holds one value, on the logarithmic scale."""
NARROWEST = 0.002
"""Of the range: the marks come no closer to zero."""
TICKS = 5
NOTABLE_DB = 1.0
FLOAT_BYTES = 4


class Grain(StrEnum):
    """What shares a scale."""

    TENSOR = "tensor"
    CHANNEL = "channel"
    GROUP_32 = "group32"
    GROUP_64 = "group64"
    GROUP_128 = "group128"

    @property
    def granularity(self) -> Granularity:
        named = {Grain.TENSOR: Granularity.PER_TENSOR, Grain.CHANNEL: Granularity.PER_CHANNEL}
        return named.get(self, Granularity.PER_GROUP)

    @property
    def group_size(self) -> int | None:
        return int(self.value.removeprefix("group")) if self.granularity is Granularity.PER_GROUP else None

    @property
    def words(self) -> str:
        return f"Groups of {self.group_size}" if self.group_size else f"Per {self.value}"

    @classmethod
    def of(cls, granularity: str | None, group_size: int | None) -> Grain:
        """The one a run used; the nearest group size there is."""
        if granularity == Granularity.PER_GROUP and group_size:
            return cls(f"group{min(GROUP_SIZES, key=lambda size: abs(size - group_size))}")
        return cls.CHANNEL if granularity == Granularity.PER_CHANNEL else cls.TENSOR

    def key(self, scheme: Scheme) -> str:
        return sketch_key(self.granularity, scheme, self.group_size)


@dataclass(frozen=True, eq=False)
class Axis:
    """The histogram's axis: in the tensor's unit, or in parts of each channel's or group's own range.

    Attributes:
        reach: the ends of the axis below and above zero, as positive numbers.
        values: of the sketch's bins, on this axis.
    """

    reach: tuple[float, float]
    mirrored: bool
    values: NDArray[np.float64]

    @classmethod
    def of(cls, sketch: Sketch, grain: Grain, scheme: Scheme) -> Axis:
        whole = grain is Grain.TENSOR
        below, above = (float(side) for side in sketch.reach[0]) if whole else (1.0, 1.0)
        if scheme is Scheme.SYMMETRIC:
            below = above = max(below, above)
        return cls((below, above), scheme is Scheme.SYMMETRIC, sketch.middle if whole else sketch.mean)

    @property
    def span(self) -> float:
        return sum(self.reach) or 1.0

    def position(self, value: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Where on the width a value lies."""
        return np.asarray(MARGIN + (1 - 2 * MARGIN) * (np.asarray(value) + self.reach[0]) / self.span)

    def clip(self, positions: tuple[float, float]) -> Clip:
        """The parts of the range that marks at these positions cover."""
        values = [(share - MARGIN) / (1 - 2 * MARGIN) * self.span - self.reach[0] for share in positions]
        below, above = (
            min(max(size / reach, NARROWEST), 1.0) if reach > 0 else 1.0
            for size, reach in zip((-values[0], values[1]), self.reach, strict=True)
        )
        return below, above


def drawing(sketch: Sketch, axis: Axis, question: Question) -> Drawing:
    """The histogram with its clip marks, and the grid's values where they are few."""
    clip = covered(question.scheme, question.clip)
    low, high = -axis.reach[0] * clip[0], axis.reach[1] * clip[1]
    marks = float(axis.position(low)), float(axis.position(high))
    nearest = [float(axis.position(sign * NARROWEST * reach)) for sign, reach in zip((-1, 1), axis.reach, strict=True)]
    return Drawing(
        bars=_bars(sketch, axis),
        ticks=[(float(axis.position(v)), fmt.number(v, 2)) for v in _ticks(axis)],
        levels=_levels(low, high, axis, question),
        zero=float(axis.position(0.0)),
        marks=marks,
        words=(fmt.number(low), fmt.number(high)),
        limits=((float(axis.position(-axis.reach[0])), nearest[0]), (nearest[1], float(axis.position(axis.reach[1])))),
        mirrored=axis.mirrored,
    )


def _bars(sketch: Sketch, axis: Axis) -> list[tuple[float, float, float]]:
    edges = np.linspace(-axis.reach[0], axis.reach[1], BARS + 1)
    counts, _ = np.histogram(axis.values, edges, weights=sketch.count)
    heights = np.where(counts > 0, FLOOR + (1 - FLOOR) * np.log1p(counts) / np.log1p(max(counts.max(), 1)), 0.0)
    lefts, width = axis.position(edges[:-1]), (1 - 2 * MARGIN) / BARS
    return [(round(float(x), 5), round(width, 5), round(float(h), 4)) for x, h in zip(lefts, heights, strict=True) if h > 0]


def _ticks(axis: Axis) -> list[float]:
    return [float(value) for value in np.linspace(-axis.reach[0], axis.reach[1], TICKS)]


def _levels(low: float, high: float, axis: Axis, question: Question) -> list[float]:
    if 2**question.bits > FEW_LEVELS:
        return []
    scale, zero_point, qmin, qmax = grid(np.array([low]), np.array([high]), question.bits, question.scheme)
    codes = np.array([-1, 1]) if question.bits == 1 and axis.mirrored else np.arange(qmin, qmax + 1) - zero_point[0]
    return [round(float(x), 5) for x in axis.position(codes * scale[0])]


def projected_bytes(summary: TensorSummary, grain: Grain, question: Question) -> float:
    """Bytes of the packed codes, and of a float32 scale (and, affine, a zero point) for all that share one."""
    channels = len(summary.channel_low)
    row = summary.size // max(channels, 1)
    scales = {Grain.TENSOR: 1, Grain.CHANNEL: channels}.get(grain, channels * -(-row // (grain.group_size or row)))
    each = SCALE_BYTES + (ZERO_POINT_BYTES if question.scheme is Scheme.AFFINE else 0)
    return summary.size * question.bits / 8 + scales * each


def finding(name: str, grain: Grain, question: Question, now: Estimate, other: tuple[Grain, Estimate] | None) -> str:
    """The most useful thing to know about a choice, in Markdown.

    Args:
        other: a finer granularity and what the same bits give there, where there is one.
    """
    how = f"{question.bits} bit{'s' if question.bits > 1 else ''} {_shared(grain)}"
    if now.exact or now.sqnr_db is None:
        return f"**{name}** survives {how} without any error."
    sentences = [
        f"At {how}, the error of **{name}** is {fmt.percent(10 ** (-now.sqnr_db / 20))} of its size, "
        f"an SQNR of {fmt.decibels(now.sqnr_db)}.",
        _cause(now),
    ]
    if other and other[1].sqnr_db is not None and other[1].sqnr_db - now.sqnr_db >= NOTABLE_DB:
        gain = fmt.decibels(other[1].sqnr_db - now.sqnr_db)
        sentences.append(f"The same bits {_shared(other[0])} would give {gain} more.")
    return " ".join(sentence for sentence in sentences if sentence)


def _shared(grain: Grain) -> str:
    return f"in {grain.words.lower()}" if grain.group_size else grain.words.lower()


def _cause(now: Estimate) -> str:
    if now.clipping_share > 0.5:
        return f"{fmt.percent(now.clipping_share, 0)} of it is clipping: the marks are too close."
    if now.clipping_share > 0.05:
        return f"{fmt.percent(now.clipping_share, 0)} of it is clipping, the rest rounding."
    if now.rmse_per_step < 0.5 * IDEAL_RMSE_PER_STEP:
        return "Most values lie in one or two steps around zero: the range is wider than they need."
    return "Nearly all of it is rounding."


def finer(grain: Grain, summary: TensorSummary, scheme: Scheme) -> Grain | None:
    """The next finer sharing of scales that the tensor has a sketch for."""
    order = [Grain.TENSOR, Grain.CHANNEL, Grain.GROUP_128, Grain.GROUP_64, Grain.GROUP_32]
    rest = order[order.index(grain) + 1 :]
    return next((candidate for candidate in rest if candidate.key(scheme) in summary.sketches), None)
