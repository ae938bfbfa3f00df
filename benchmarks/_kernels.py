"""Compiled loops over activations: each reads its arrays once and releases the interpreter, so that layers run on threads.

Compiled by numba on first use and kept in its cache on disk. Sums are of float64 whatever the arrays are of; only their order
is free, which is what lets the processor add several at a time.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_FAST = {"reassoc", "contract", "nsz"}
"""Not the flags that assume there is no NaN: NaN and infinity must reach the sums, where they are found."""
_LANES = 4
"""Histograms filled side by side: equal neighbours, as many as a ReLU makes, do not wait for each other."""


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def pair_sums(x: NDArray[np.float32], y: NDArray[np.float32], sums: NDArray[np.float64]) -> None:
    """Fills `sums` [N, 9] from two batches [N, M]: Σx², Σ(x−y)², Σxy, Σy², max |x−y|, then min x, max x, min y, max y."""
    for sample in range(x.shape[0]):
        a, b, row = x[sample], y[sample], sums[sample]
        energy = noise = common = other = greatest = 0.0
        low_a, high_a, low_b, high_b = np.float64(a[0]), np.float64(a[0]), np.float64(b[0]), np.float64(b[0])
        for i in range(a.size):
            value, estimate = np.float64(a[i]), np.float64(b[i])
            error = value - estimate
            energy += value * value
            noise += error * error
            common += value * estimate
            other += estimate * estimate
            greatest = max(greatest, abs(error))
            low_a, high_a = min(low_a, value), max(high_a, value)
            low_b, high_b = min(low_b, estimate), max(high_b, estimate)
        row[0], row[1], row[2], row[3], row[4] = energy, noise, common, other, greatest
        row[5], row[6], row[7], row[8] = low_a, high_a, low_b, high_b


@numba.njit(cache=True, nogil=True)
def count(x: NDArray[np.float32], per_width: float, first: int, counts: NDArray[np.int64]) -> None:
    """Adds a vector to `counts`: bin `n` holds the values nearest to (first + n) ÷ per_width, which all must lie in a bin."""
    lanes = np.zeros((_LANES, counts.size), np.int64)
    shift = 0.5 - first
    whole = x.size - x.size % _LANES
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            lanes[lane, int(np.floor(np.float64(x[start + lane]) * per_width + shift))] += 1
    for i in range(whole, x.size):
        lanes[0, int(np.floor(np.float64(x[i]) * per_width + shift))] += 1
    for lane in range(_LANES):
        for n in range(counts.size):
            counts[n] += lanes[lane, n]
