"""Where to clip: the part of its range a tensor is best quantized over, by four rules, asked of its sketch."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadData, UnknownName
from quantizers.numerics import WHOLE_RANGE
from quantizers.schema import Scheme
from quantizers.sketch import Clip, Question, Sketch, estimate

NARROWEST = 1e-4
"""Of the range; the search by MSE goes no further."""
COARSE, FINE, ROUNDS = 25, 7, 4
KL_BINS = 1024
KL_CANDIDATES = 160


class Clipping(StrEnum):
    MIN_MAX = "min_max"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


def best_clip(
    sketch: Sketch, bits: int, scheme: Scheme, rule: Clipping, *, percentile: float = 99.9, power_of_two: bool = False
) -> Clip:
    """The parts of the range below and above zero to cover.

    Args:
        percentile: one of the sketch's; only `Clipping.PERCENTILE` reads it.

    Raises:
        UnknownName: the sketch holds no such percentile.
        BadData: at least so many of the values are zero, so that nothing is left to cover.
    """
    if rule is Clipping.MIN_MAX or not sketch.reach.any():
        return WHOLE_RANGE
    if rule is Clipping.PERCENTILE:
        return _percentile(sketch, scheme, percentile)
    if rule is Clipping.ENTROPY:
        size = _least_divergence(sketch, bits) * sketch.reach.max()
        below, above = (min(1.0, float(size / reach)) if reach > 0 else 1.0 for reach in sketch.reach.max(axis=0))
        return below, above
    return _least_noise(sketch, lambda clip: estimate(sketch, Question(bits, scheme, clip, power_of_two)).mse, scheme)


def _percentile(sketch: Sketch, scheme: Scheme, percentile: float) -> Clip:
    if percentile not in sketch.percentiles:
        raise UnknownName.of("percentile", f"{percentile:g}", (f"{known:g}" for known in sketch.percentiles))
    below, above, either = sketch.percentiles[percentile]
    if scheme is Scheme.SYMMETRIC:
        below = above = either
    # A side without values has no range to narrow.
    sides = zip((below, above), sketch.reach.max(axis=0), strict=True)
    below, above = (part if reach > 0 else 1.0 for part, reach in sides)
    if min(below, above) <= 0:
        raise BadData(f"{percentile:g} % of the values lie at zero.", "Choose a higher percentile, or another rule.")
    return below, above


def _least_noise(sketch: Sketch, mse: Callable[[Clip], float], scheme: Scheme) -> Clip:
    """Both sides alike at first, ever more closely around the best; then, where they can differ, each side by itself."""
    parts = np.geomspace(NARROWEST, 1.0, COARSE)
    best = _search(parts, lambda part: mse((part, part)))
    clip = best, best
    if scheme is Scheme.SYMMETRIC or not sketch.reach.any(axis=0).all():
        return clip
    for side in (0, 1, 0, 1):
        clip = _one_side(clip, side, mse)
    return clip


def _one_side(clip: Clip, side: int, mse: Callable[[Clip], float]) -> Clip:
    def moved(part: float) -> Clip:
        return (clip[0], part) if side else (part, clip[1])

    return moved(_search(_around(clip[side], 2.0), lambda part: mse(moved(part))))


def _search(parts: NDArray[np.float64], mse: Callable[[float], float]) -> float:
    """The best of `parts`, then of ever closer neighbours."""
    tried = {float(part): mse(float(part)) for part in parts}
    factor = float(parts[1] / parts[0])
    for _ in range(ROUNDS):
        best = min(tried, key=lambda part: tried[part])
        tried |= {float(part): mse(float(part)) for part in _around(best, factor)}
        factor = factor ** (2 / (FINE - 1))
    return min(tried, key=lambda part: tried[part])


def _around(part: float, factor: float) -> NDArray[np.float64]:
    """Parts from `part` ÷ factor to `part` × factor, none beyond the whole range."""
    return np.minimum(np.geomspace(part / factor, part * factor, FINE), 1.0)


def _least_divergence(sketch: Sketch, bits: int) -> float:
    """The part of |x| whose histogram, rounded to the grid's levels, diverges least from the clipped one (in nats).

    The method of Migacz, "8-bit inference with TensorRT" (2017): what lies beyond counts in the outermost bin of the reference.
    """
    levels = max(1 << (bits - 1), 2)
    to_reach = sketch.unit.max() / sketch.reach.max()
    where = np.minimum((np.abs(sketch.mean) * to_reach * KL_BINS).astype(np.int64), KL_BINS - 1)
    counts = np.bincount(where, sketch.count.astype(np.float64), KL_BINS)
    if levels >= KL_BINS:
        return 1.0
    candidates = np.unique(np.geomspace(levels, KL_BINS, KL_CANDIDATES).astype(np.int64))
    divergences = [_divergence(counts, int(kept), levels) for kept in candidates]
    return float(candidates[int(np.argmin(divergences))] / KL_BINS)


def _divergence(counts: NDArray[Any], kept: int, levels: int) -> float:
    """KL(clipped ‖ rounded) when the first `kept` bins are kept and shared evenly by `levels`."""
    inside = counts[:kept]
    reference = inside.copy()
    reference[-1] += counts[kept:].sum()
    level = np.arange(kept) * levels // kept
    there = inside > 0
    mass, sharing = np.bincount(level, inside, levels), np.bincount(level, there, levels)
    rounded = np.where(there, (mass / np.maximum(sharing, 1))[level], 0.0)
    if not rounded.any():
        return np.inf
    p, q = reference / reference.sum(), rounded / rounded.sum()
    # A reference that has values where the rounded one has none diverges without bound; as usual, a trace of mass stands there.
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-9))).sum())
