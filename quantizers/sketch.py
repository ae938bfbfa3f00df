"""Histogram sketches: what is kept of a tensor so that any what-if question about it takes a millisecond, whatever its size.

A sketch is a histogram of values in units of what shares a scale (the tensor, each channel, each group), with the count, the
weight, the mean and the variance of every bin. A question (bits, scheme, part of the range to cover) is answered by
integrating the squared error over every bin, its values taken as evenly spread with that mean and variance: exact where a bin
has one code, and close wherever the grid is finer than the bins, up to 16 bits. Sketches merge, so that activations are seen
batch by batch in constant memory. Building is in `quantizers.sketch_build`; nothing here is heavy.

Channels of one tensor share a histogram: each is scaled to −1…1 and weighted by the square of its range, which gives the error
of all of them at once when they are clipped alike. An affine grid clips both sides apart; its channels are sorted into classes
by how much of their range is negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.numerics import WHOLE_RANGE, covered, grid
from quantizers.schema import Granularity, Scheme

BINS = 4096
GROUP_SIZES = (32, 64, 128)
"""Those that are sketched."""
NARROW = 1e-3
"""Steps: a bin no wider is asked at its mean."""
NOTHING = 1e-20
"""Σe² ÷ Σx² below which an error is that of the sketch's own arithmetic, and counts as none."""
LEVELS_COUNTED_TO = 8
"""Bits: the levels of finer grids lie closer than bins."""
Floats = NDArray[np.float64]
Clip = tuple[float, float]
"""Parts of the range below and above zero that a grid covers."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """Values of one tensor, or of all its channels or groups.

    Attributes:
        bins: even divisions of u = −1…1; the upper half holds u ≥ 0.
        reach: the range below and above zero that a clip of 1 covers [classes, 2], as positive numbers in the tensor's unit.
        unit: what u = −1 and u = 1 stand for [classes, 2].
        place: class · bins + bin of each bin that is not empty [M].
        count, weight: how many values it has, and how much their squares weigh [M].
        mean, variance: of its values, in u [M].
        percentiles: percent → parts of the reach (below, above, either side) that hold so many of all values.
    """

    bins: int
    reach: Floats
    unit: Floats
    place: NDArray[np.int64]
    count: NDArray[np.int64]
    weight: Floats
    mean: Floats
    variance: Floats
    percentiles: Mapping[float, tuple[float, float, float]] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def size(self) -> int:
        """Number of values."""
        return int(self.count.sum())

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        return np.asarray(self.place // self.bins, np.int64)

    @cached_property
    def middle(self) -> Floats:
        """Mean of each bin in the tensor's unit."""
        return self.mean * self._units

    @cached_property
    def half(self) -> Floats:
        """Half the width over which a bin's values are taken as evenly spread, in the tensor's unit; never beyond the reach."""
        room = self.reach[self.classes, self._side] - np.abs(self.middle)
        return np.minimum(np.sqrt(3 * self.variance) * self._units, np.maximum(room, 0.0))

    @cached_property
    def _side(self) -> NDArray[np.int64]:
        return np.asarray(self.place % self.bins >= self.bins // 2, np.int64)

    @cached_property
    def _units(self) -> Floats:
        return np.asarray(self.unit[self.classes, self._side])

    @cached_property
    def signal(self) -> float:
        """Σx²."""
        return float((self.weight * self._units**2 * (self.mean**2 + self.variance)).sum())


def sketch_key(granularity: Granularity, scheme: Scheme, group_size: int | None = None) -> str:
    """The name of the sketch that answers questions of a granularity and a scheme; one of a whole tensor answers both."""
    if granularity is Granularity.PER_TENSOR:
        return granularity.value
    size = f"_{group_size}" if granularity is Granularity.PER_GROUP else ""
    return f"{granularity.value}{size}_{scheme.value}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Errors as in `numerics.TensorError`, from a sketch. Figures that do not apply are None.

    Attributes:
        levels_used: distinct codes present ÷ codes available, up to 8 bits.
    """

    sqnr_db: float | None
    exact: bool
    mse: float
    cosine: float | None
    rmse_per_step: float
    clipping_share: float
    levels_used: float | None


@dataclass(frozen=True, slots=True)
class Question:
    """A grid to ask about; see `numerics.min_max_params`."""

    bits: int
    scheme: Scheme = Scheme.SYMMETRIC
    clip: Clip = WHOLE_RANGE
    power_of_two: bool = False


def estimate(sketch: Sketch, question: Question) -> Estimate:
    """The error of the sketched values on one grid; some tenths of a millisecond.

    Raises:
        BadData: the grid makes no sense.
    """
    below, above = covered(question.scheme, question.clip)
    low, high = -sketch.reach[:, 0] * below, sketch.reach[:, 1] * above
    scale, zero_point, qmin, qmax = grid(low, high, question.bits, question.scheme, power_of_two=question.power_of_two)
    lowest, highest = ((bound - zero_point)[sketch.classes].astype(np.float64) for bound in (qmin, qmax))
    step = scale[sketch.classes]
    binary = question.bits == 1 and question.scheme is Scheme.SYMMETRIC
    codes = _Codes(sketch.middle / step, sketch.half / step, lowest, highest, binary)
    square, outside, common = codes.averages()
    area = sketch.weight * step**2
    noise, clipped, shared = (float((area * part).sum()) for part in (square, outside, common))
    exact = noise <= NOTHING * sketch.signal
    energy = sketch.signal - 2 * shared + noise  # Σx̂² of x̂ = x − e
    norms = np.sqrt(sketch.signal * max(energy, 0.0))
    return Estimate(
        sqnr_db=float(10 * np.log10(sketch.signal / noise)) if not exact and sketch.signal > 0 else None,
        exact=exact,
        mse=0.0 if exact else noise / sketch.size,
        cosine=float(np.clip((sketch.signal - shared) / norms, -1.0, 1.0)) if norms > 0 else None,
        rmse_per_step=float(np.sqrt((sketch.count * square).sum() / sketch.size)),
        clipping_share=0.0 if exact else min(clipped / noise, 1.0),
        levels_used=codes.used() / (2 if binary else qmax - qmin + 1) if question.bits <= LEVELS_COUNTED_TO else None,
    )


def estimates(sketch: Sketch, questions: Sequence[Question]) -> list[Estimate]:
    """The errors on a whole set of grids."""
    return [estimate(sketch, question) for question in questions]


@dataclass(frozen=True, eq=False)
class _Codes:
    """Values spread over middle ± half, in steps, and the codes lowest…highest they are rounded to; all [M].

    With e = t − code(t), the integrals of e², of e² beyond the outermost codes and of t·e have closed forms. Let k be the code
    of t and r = t − k: ∫e² = r³/3 + ck and ∫te = r³/3 + kr²/2 − ck/2, where c = 1/12 (1/3 for the two codes −1 and 1).
    """

    middle: Floats
    half: Floats
    lowest: Floats
    highest: Floats
    binary: bool

    def averages(self) -> tuple[Floats, Floats, Floats]:
        """Averages of e², of e² where t lies beyond the codes, and of t·e."""
        width = np.where(self.half > NARROW, 2 * self.half, 1.0)
        ends = zip(self._integrals(self.middle + self.half), self._integrals(self.middle - self.half), strict=True)
        spread = [(upper - lower) / width for upper, lower in ends]
        error, variance = self.middle - self._code(self.middle), self.half**2 / 3
        beyond = (self.middle > self.highest) | (self.middle < self.lowest)
        square = error**2 + variance
        narrow = square, square * beyond, self.middle * error + variance
        wide = self.half > NARROW
        e2, outside, te = (np.where(wide, ours, point) for ours, point in zip(spread, narrow, strict=True))
        return e2, outside, te

    def used(self) -> int:
        """How many codes occur."""
        ends = [self._code(self.middle - self.half), self._code(self.middle + self.half)]
        return int(np.unique(ends - self.lowest).size)

    def _code(self, t: Floats) -> Floats:
        return np.where(t < 0, -1.0, 1.0) if self.binary else np.clip(np.rint(t), self.lowest, self.highest)

    def _integrals(self, t: Floats) -> tuple[Floats, Floats, Floats]:
        code = self._code(t)
        rest, cell = t - code, code / (3 if self.binary else 12)
        cube = rest**3 / 3
        outside = (np.maximum(t - self.highest, 0) ** 3 + np.minimum(t - self.lowest, 0) ** 3) / 3
        return cube + cell, outside, cube + code * rest**2 / 2 - cell / 2


def merge(one: Sketch, other: Sketch) -> Sketch:
    """The sketch of the values of both; their percentiles are lost.

    Raises:
        BadData: they are not sketches of whole tensors in bins of one number.
    """
    if one.bins != other.bins or len(one.unit) != 1 or len(other.unit) != 1:
        raise BadData("Only sketches of whole tensors with equal bins can be merged.", "Merge those of one tensor's batches.")
    radius = max(float(one.unit.max()), float(other.unit.max()))
    parts = [_widened(sketch, radius) for sketch in (one, other)]
    place, count, mean, square = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    sums = [np.bincount(place, values, one.bins) for values in (count, count * mean, count * square)]
    return from_sums(np.stack([sums[0], *sums], axis=-1)[None], np.maximum(one.reach, other.reach), np.full((1, 2), radius))


def _widened(sketch: Sketch, radius: float) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Bins, counts, means and mean squares in units of `radius`, which is a power of two as every tensor's unit is."""
    factor = float(sketch.unit.max()) / radius
    centre = sketch.bins // 2
    place = np.floor((sketch.place - centre) * factor).astype(np.int64) + centre
    return place, sketch.count.astype(np.float64), sketch.mean * factor, (sketch.mean**2 + sketch.variance) * factor**2


def from_sums(sums: Floats, reach: Floats, unit: Floats) -> Sketch:
    """A sketch from the count, Σw, Σwu and Σwu² [classes, bins, 4] of every bin."""
    count, weight, first, second = sums.reshape(-1, 4).T
    place = np.flatnonzero(count)
    weights = np.where(weight[place] > 0, weight[place], 1.0)
    mean = first[place] / weights
    variance = np.maximum(second[place] / weights - mean**2, 0.0)
    # What a difference of two equal squares leaves is no spread.
    variance[variance < 1e-13 * mean**2] = 0.0
    return Sketch(sums.shape[1], reach, unit, place, count[place].astype(np.int64), weight[place], mean, variance)
