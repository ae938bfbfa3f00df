"""Compiled passes over weights: one reading of a tensor answers many questions. Imported inside functions, never by a page.

Every kernel walks over a range of a flat float32 array in segments that lie within one block: a tensor, a channel or a group,
whatever shares a scale. A segment fits the first-level cache, so that asking it seven bit widths costs no further reading of
memory, and its float32 sums stay short enough to be exact to about 1e-6; they are added up in float64. The kernels release the
interpreter's lock: callers run them in threads. Compiled code is kept on disk, so only the first process ever pays for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SEGMENT = 4096
"""Elements: 16 KB, a third to a half of a first-level cache."""
ORDINARY = (1e-12, 1e12)
"""Between these a block's squares neither vanish nor overflow in float32; others are scaled first."""


def _compile(**options: Any) -> Callable[[Any], Any]:
    compiled: Callable[[Any], Any] = numba.njit(cache=True, nogil=True, error_model="numpy", **options)
    return compiled


@_compile(inline="always")
def _segment_end(position: int, end: int, row: int, group: int) -> int:
    """Where the segment that begins at `position` ends: with its group, its row, its range, or after SEGMENT elements."""
    column = position % row
    return min(end, position - column + min(row, (column // group + 1) * group), position + SEGMENT)


@_compile(inline="always")
def _block(position: int, row: int, group: int) -> int:
    return (position // row) * ((row + group - 1) // group) + (position % row) // group


@_compile(fastmath=True)
def _extremes(x: Any) -> Any:
    low, high = x[0], x[0]
    for i in range(x.size):
        low, high = min(low, x[i]), max(high, x[i])
    return low, high


@_compile()
def _is_finite(x: Any) -> Any:
    largest = np.uint32(0)
    for pattern in x.view(np.uint32):
        largest = max(largest, pattern & np.uint32(0x7FFFFFFF))
    return largest < np.uint32(0x7F800000)  # an exponent of all ones is infinity or NaN


@_compile()
def ranges(x: Any, row: int, group: int, begin: int, end: int, low: Any, high: Any) -> Any:
    """Widens `low` and `high`, one of each block from that of `begin` on, by x[begin:end]; False if a value is not finite."""
    first, position, finite = _block(begin, row, group), begin, True
    while position < end:
        stop = _segment_end(position, end, row, group)
        block = _block(position, row, group) - first
        smallest, largest = _extremes(x[position:stop])
        low[block], high[block] = min(low[block], smallest), max(high[block], largest)
        finite = finite and _is_finite(x[position:stop])
        position = stop
    return finite


@_compile(fastmath={"contract"})
def _residual(x: Any, per_step: Any, step: Any, rest: Any) -> Any:
    """x − (step + rest)·round(x ÷ step), as exact as in float64: no sum of it may be reordered."""
    code = np.rint(x * per_step)
    return (x - code * step) - code * rest


@_compile(fastmath=True)
def _rounding(x: Any, step: float) -> Any:
    """Σe² and Σxe of e = x − step·round(x ÷ step)."""
    per_step, upper = np.float32(1 / step), np.float32(step)
    rest = np.float32(step - upper)
    noise, common = np.float32(0), np.float32(0)
    for i in range(x.size):
        error = _residual(x[i], per_step, upper, rest)
        noise += error * error
        common += x[i] * error
    return noise, common


@_compile(fastmath=True)
def _power(x: Any) -> Any:
    total = np.float32(0)
    for i in range(x.size):
        total += x[i] * x[i]
    return total


@_compile(inline="always")
def _binary_factor(reach: float) -> float:
    """A power of two that brings a block of unusual size to the order of 1; 1.0 for all others."""
    if reach == 0 or ORDINARY[0] < reach < ORDINARY[1]:
        return 1.0
    return float(2.0 ** -np.floor(np.log2(reach)))


@_compile()
def _ordinary(x: Any, factor: float, room: Any) -> Any:
    """`x` times `factor`, in `room` unless the factor is 1."""
    if factor == 1.0:
        return x
    for i in range(x.size):
        room[i] = np.float32(x[i] * factor)
    return room[: x.size]


@_compile()
def min_max_errors(x: Any, row: int, reach: Any, widest: float, codes: Any, begin: int, end: int) -> Any:
    """Sums over x[begin:end] for symmetric grids that cover the tensor (index 0) and each row (index 1).

    Args:
        reach: largest |x| of each row.
        widest: largest |x| of the tensor.
        codes: the largest code of each bit width [B].

    Returns:
        Σe², Σxe [2, B, 2] and Σx².
    """
    sums, power = np.zeros((2, codes.size, 2)), 0.0
    room = np.empty(SEGMENT, np.float32)
    position = begin
    while position < end:
        stop = _segment_end(position, end, row, row)
        for which in range(2):
            covered = float(reach[position // row]) if which else widest
            if covered == 0:
                continue
            factor = _binary_factor(covered)
            values = _ordinary(x[position:stop], factor, room)
            restore = 1 / factor / factor
            if which == 0:
                power += _power(values) * restore
            for j in range(codes.size):
                noise, common = _rounding(values, covered * factor / codes[j])
                sums[which, j, 0] += noise * restore
                sums[which, j, 1] += common * restore
        position = stop
    return sums, power


@_compile(inline="always")
def _bin(u: float, bins: int) -> int:
    return min(max(int(np.floor(u * (bins // 2))) + bins // 2, 0), bins - 1)


@_compile()
def bin_moments(
    x: Any, row: int, group: int, begin: int, end: int, inverse: Any, weights: Any, classes: Any, moments: Any
) -> None:
    """Adds x[begin:end], each divided by the range of its block and side, to the count, Σw, Σwu and Σwu² of its bin.

    Args:
        inverse: 1 ÷ the range below and above zero of each block [blocks, 2].
        weights: w below and above zero [blocks, 2].
        classes: histogram of each block [blocks].
        moments: [classes, bins, 4]; bins divide u = −1…1 evenly.
    """
    bins, position = moments.shape[1], begin
    while position < end:
        stop = _segment_end(position, end, row, group)
        block = _block(position, row, group)
        histogram, below, above = moments[classes[block]], inverse[block, 0], inverse[block, 1]
        weight_below, weight_above = weights[block, 0], weights[block, 1]
        for i in range(position, stop):
            negative = x[i] < 0
            u = x[i] * (below if negative else above)
            weight = weight_below if negative else weight_above
            k = _bin(u, bins)
            histogram[k, 0] += 1
            histogram[k, 1] += weight
            histogram[k, 2] += weight * u
            histogram[k, 3] += weight * u * u
        position = stop


@_compile()
def gather_tails(x: Any, row: int, group: int, inverse: Any, bins: int, last: int, first: int, below: Any, above: Any) -> None:
    """Fills `below` with the values u of the bins up to `last`, `above` with those of the bins from `first` on.

    Both are exactly as long as needed; the other arguments are those of `bin_moments`.
    """
    fewer, more, position = 0, 0, 0
    while position < x.size:
        stop = _segment_end(position, x.size, row, group)
        block = _block(position, row, group)
        for i in range(position, stop):
            u = x[i] * inverse[block, 0 if x[i] < 0 else 1]
            where = _bin(u, bins)
            if where <= last:
                below[fewer] = u
                fewer += 1
            if where >= first:
                above[more] = u
                more += 1
        position = stop


@_compile(fastmath=True)
def total(x: Any) -> Any:
    """Σx: what reading the memory costs, the least that any pass can take."""
    result = np.float32(0)
    for i in range(x.size):
        result += x[i]
    return result
