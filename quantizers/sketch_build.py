"""Building sketches: compiled, multi-threaded passes over the weights of a model, or over activations batch by batch.

Runs in a process of its own; what it makes is kept as one .npz file, which pages query through `quantizers.sketch_file`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.adapter import Report
from quantizers.processors import processors
from quantizers.schema import Floats, Granularity, Scheme
from quantizers.sketch import BINS, GROUP_SIZES, Sketch, from_sums, merge, sketch_key
from quantizers.weight_error import Rows, WeightErrors, block_ranges, run_chunks, weight_errors

TENSOR_BINS = 2 * BINS
"""A tensor's unit is a power of two, so that sketches merge; its values fill at least half of it."""
CLASSES = 16
CLASS_BINS = BINS // 4
PERCENTILES = (99.0, 99.9, 99.99, 99.999)
MOST_IN_A_BIN = 1 << 25
"""Values of one bin that are still sorted to find a percentile among them."""
_SMALLEST = 2.0**-149
"""The smallest float32 above zero."""


@dataclass(frozen=True, eq=False)
class TensorSketches:
    """All that is kept of one weight.

    Attributes:
        sketches: by `sketch_key`.
        channel_low, channel_high: extremes of each channel [C], channels along the first axis.
        errors: exact, on symmetric min-max grids.
    """

    shape: tuple[int, ...]
    sketches: Mapping[str, Sketch]
    channel_low: NDArray[np.float32]
    channel_high: NDArray[np.float32]
    errors: WeightErrors


def build_sketches(
    weights: Mapping[str, Floats],
    *,
    groups: Sequence[int] = GROUP_SIZES,
    threads: int | None = None,
    report: Report | None = None,
) -> dict[str, TensorSketches]:
    """Sketches every weight of a model, per tensor, channel and group.

    Args:
        weights: by name; channels along the first axis. Groups are consecutive weights of a channel.
        groups: group sizes; one that is no smaller than a tensor's channels is left out for it.
        report: called after each tensor.

    Raises:
        BadData: a tensor is empty, or holds NaN or infinity.
    """
    total, done = sum(x.size for x in weights.values()), 0
    built = {}
    with ThreadPoolExecutor(threads or processors()) as pool:
        for name, x in weights.items():
            built[name] = _tensor(name, x, groups, threads, pool)
            done += x.size
            if report:
                report(done / total, f"Reading {name}")
    return built


class StreamingSketch:
    """The sketch of values that come in batches; takes as much memory after a million batches as after one."""

    def __init__(self) -> None:
        self._sketch: Sketch | None = None

    def add(self, name: str, batch: Floats) -> None:
        """Adds the values of a batch; `name` is for the error message.

        Raises:
            BadData: the batch is empty, or holds NaN or infinity.
        """
        rows = Rows.of(name, batch.ravel())
        with ThreadPoolExecutor(processors()) as pool:
            sketch = _whole(rows, *block_ranges([rows], pool)[0], pool)
        self._sketch = sketch if self._sketch is None else merge(self._sketch, sketch)

    @property
    def sketch(self) -> Sketch | None:
        """Of all batches so far, without percentiles; None before the first."""
        return self._sketch


def _tensor(name: str, x: Floats, groups: Sequence[int], threads: int | None, pool: ThreadPoolExecutor) -> TensorSketches:
    channels = Rows.of(name, x)
    ((low, high),) = block_ranges([channels], pool)
    flat = Rows.of(name, channels.values)
    whole = _whole(flat, low.min(keepdims=True), high.max(keepdims=True), pool)
    sketches = {sketch_key(Granularity.PER_TENSOR, Scheme.SYMMETRIC): _with_percentiles(whole, flat, 1 / whole.unit)}
    for scheme in Scheme:
        sketches[sketch_key(Granularity.PER_CHANNEL, scheme)] = _blocks(channels, low, high, scheme, pool)
    for group in groups:
        if group < channels.row:
            rows = replace(channels, group=group)
            ((group_low, group_high),) = block_ranges([rows], pool)
            for scheme in Scheme:
                sketches[sketch_key(Granularity.PER_GROUP, scheme, group)] = _blocks(rows, group_low, group_high, scheme, pool)
    errors = weight_errors({name: x}, threads=threads)[name]
    return TensorSketches(x.shape, sketches, low, high, errors)


def _whole(rows: Rows, low: NDArray[np.float32], high: NDArray[np.float32], pool: ThreadPoolExecutor) -> Sketch:
    """The sketch of a tensor, in units of the next power of two above its values, so that sketches merge."""
    reach = _sides(low, high)
    widest = max(float(reach.max()), _SMALLEST)
    unit = np.full((1, 2), np.exp2(np.frexp(widest)[1]))
    sums = _sums(rows, 1 / unit, np.ones((1, 2)), np.zeros(1, np.int64), (1, TENSOR_BINS), pool)
    return from_sums(sums, reach, unit)


def _blocks(
    rows: Rows, low: NDArray[np.float32], high: NDArray[np.float32], scheme: Scheme, pool: ThreadPoolExecutor
) -> Sketch:
    """One sketch of all channels or groups, each in units of its own range."""
    sides = _sides(low, high)
    if scheme is Scheme.SYMMETRIC:
        sides = np.broadcast_to(sides.max(axis=1, keepdims=True), sides.shape)
        classes, shape = np.zeros(rows.blocks, np.int64), (1, BINS)
    else:
        share = sides[:, 0] / np.where(sides.sum(axis=1) > 0, sides.sum(axis=1), 1.0)
        classes, shape = np.minimum((share * CLASSES).astype(np.int64), CLASSES - 1), (CLASSES, CLASS_BINS)
    members = np.maximum(np.bincount(classes, minlength=shape[0]), 1)
    unit = np.stack([np.sqrt(np.bincount(classes, sides[:, s] ** 2, shape[0]) / members) for s in (0, 1)], axis=1)
    inverse = np.divide(1.0, sides, out=np.zeros(sides.shape), where=sides > 0)
    weights = np.divide(sides, unit[classes], out=np.zeros(sides.shape), where=unit[classes] > 0) ** 2
    sketch = from_sums(_sums(rows, inverse, weights, classes, shape, pool), unit, unit)
    return _with_percentiles(sketch, rows, inverse)


def _sides(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ranges below and above zero [blocks, 2]."""
    return np.stack([np.maximum(-low.astype(np.float64), 0.0), np.maximum(high.astype(np.float64), 0.0)], axis=1)


def _sums(
    rows: Rows,
    inverse: NDArray[np.float64],
    weights: NDArray[np.float64],
    classes: NDArray[np.int64],
    shape: tuple[int, int],
    pool: ThreadPoolExecutor,
) -> NDArray[np.float64]:
    from quantizers import _fused

    def look(_which: int, begin: int, end: int) -> Any:
        moments = np.zeros((*shape, 4))
        _fused.bin_moments(rows.values, rows.row, rows.group, begin, end, inverse, weights, classes, moments)
        return moments

    chunk = max(1 << 18, -(-rows.values.size // processors()))
    total: NDArray[np.float64] = sum(run_chunks([rows], look, pool, chunk)[0])
    return total


def _with_percentiles(sketch: Sketch, rows: Rows, inverse: NDArray[np.float64]) -> Sketch:
    """Adds exact percentiles, found among the values of the outermost bins."""
    from quantizers import _fused

    counts = np.bincount(sketch.place % sketch.bins, sketch.count, sketch.bins).astype(np.int64)
    wanted = sketch.size - int(np.ceil(sketch.size * PERCENTILES[0] / 100)) + 1
    low = int(np.searchsorted(np.cumsum(counts), wanted))
    high = sketch.bins - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), wanted))
    # A bin that so many share holds little else than zeros.
    low, high = low - int(counts[low] > MOST_IN_A_BIN), high + int(counts[high] > MOST_IN_A_BIN)
    below, above = np.empty(counts[: low + 1].sum()), np.empty(counts[high:].sum())
    _fused.gather_tails(rows.values, rows.row, rows.group, inverse, sketch.bins, low, high, below, above)
    parts = np.max(sketch.unit / np.where(sketch.reach > 0, sketch.reach, np.inf), axis=0)
    either = np.concatenate([-below[below < 0], above[above > 0]]) * sketch.unit.max() / max(sketch.reach.max(), _SMALLEST)
    tails = [np.sort(tail)[::-1] for tail in (-below * parts[0], above * parts[1], either)]
    ranks = {percent: sketch.size - int(np.ceil(sketch.size * percent / 100)) for percent in PERCENTILES}
    return replace(sketch, percentiles={percent: _at(tails, rank) for percent, rank in ranks.items()})


def _at(tails: Sequence[NDArray[np.float64]], rank: int) -> tuple[float, float, float]:
    below, above, either = (max(float(tail[rank]), 0.0) if rank < tail.size else 0.0 for tail in tails)
    return below, above, either
