"""Exact errors of a whole model's weights, for all bit widths and granularities at once: two readings of memory.

The numbers are those of `quantizers.numerics` to 1e-5. Compiled passes in several threads do the work, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.processors import processors
from quantizers.schema import Floats, Granularity

BITS = (2, 3, 4, 5, 6, 7, 8)
GRANULARITIES = (Granularity.PER_TENSOR, Granularity.PER_CHANNEL)
CHUNK = 1 << 20
"""Elements a thread takes at a time."""
RESOLUTION = 1e-13
"""Σe² ÷ Σx² below which an error is that of float32 itself, and counts as none."""


@dataclass(frozen=True, eq=False)
class WeightErrors:
    """Errors of one tensor on symmetric min-max grids, rows GRANULARITIES, columns `bits`.

    Attributes:
        mse: mean (x−x̂)².
        sqnr_db: 10·log10(Σx² / Σ(x−x̂)²); NaN where there is no error (`exact`) or no signal.
        cosine: cosine similarity; NaN where one of the tensors is all zero.
    """

    bits: tuple[int, ...]
    mse: NDArray[np.float64]
    sqnr_db: NDArray[np.float64]
    cosine: NDArray[np.float64]

    @property
    def exact(self) -> NDArray[np.bool_]:
        return np.equal(self.mse, 0)


@dataclass(frozen=True, eq=False)
class Rows:
    """A tensor as the kernels take it: flat float32, a row a channel (the first axis), cut into groups of `group`."""

    name: str
    values: NDArray[np.float32]
    row: int
    group: int

    @classmethod
    def of(cls, name: str, x: Floats, group: int | None = None) -> Rows:
        """Channels along the first axis; a scalar or a vector is one channel.

        Raises:
            BadData: there are no values.
        """
        if x.size == 0:
            raise BadData(f"{name} has no values.", "Leave it out.")
        values = np.ascontiguousarray(x, np.float32).ravel()
        row = values.size // x.shape[0] if x.ndim > 1 else values.size
        return cls(name, values, row, min(group or row, row))

    @property
    def blocks(self) -> int:
        """Channels, or groups, a short one at the end of a row included."""
        return self.values.size // self.row * -(-self.row // self.group)

    def block_of(self, position: int) -> int:
        return position // self.row * -(-self.row // self.group) + position % self.row // self.group


def weight_errors(
    weights: Mapping[str, Floats], bits: Sequence[int] = BITS, threads: int | None = None
) -> dict[str, WeightErrors]:
    """MSE, SQNR and cosine of every tensor for every bit width, per tensor and per channel.

    Args:
        weights: by name; float32, or converted to it; channels along the first axis.
        bits: 2 to 16.
        threads: as many as there are processors when None.

    Raises:
        BadData: a tensor is empty, or holds NaN or infinity.
    """
    from quantizers import _fused

    tensors = [Rows.of(name, x) for name, x in weights.items()]
    codes = np.array([(1 << (width - 1)) - 1 for width in bits], np.float64)
    with ThreadPoolExecutor(threads or processors()) as pool:
        reaches = [np.maximum(-low, high) for low, high in block_ranges(tensors, pool)]

        def errors(which: int, begin: int, end: int) -> Any:
            tensor, reach = tensors[which], reaches[which]
            return _fused.min_max_errors(tensor.values, tensor.row, reach, float(reach.max()), codes, begin, end)

        parts = run_chunks(tensors, errors, pool)
    return {
        tensor.name: _figures(tuple(bits), tensor.values.size, *(sum(sums) for sums in zip(*results, strict=True)))
        for tensor, results in zip(tensors, parts, strict=True)
    }


def block_ranges(tensors: Sequence[Rows], pool: ThreadPoolExecutor) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Smallest and largest value of every block of every tensor.

    Raises:
        BadData: a value is NaN or infinite.
    """
    from quantizers import _fused

    found = [(np.full(t.blocks, np.inf, np.float32), np.full(t.blocks, -np.inf, np.float32)) for t in tensors]

    def look(which: int, begin: int, end: int) -> Any:
        tensor = tensors[which]
        first, last = tensor.block_of(begin), tensor.block_of(end - 1) + 1
        low, high = np.full(last - first, np.inf, np.float32), np.full(last - first, -np.inf, np.float32)
        finite = _fused.ranges(tensor.values, tensor.row, tensor.group, begin, end, low, high)
        return first, last, low, high, finite

    for tensor, (lows, highs), parts in zip(tensors, found, run_chunks(tensors, look, pool), strict=True):
        for first, last, low, high, finite in parts:
            if not finite:
                raise BadData(f"{tensor.name} holds NaN or infinity.", "Look for the operation that produced them.")
            np.minimum(lows[first:last], low, out=lows[first:last])
            np.maximum(highs[first:last], high, out=highs[first:last])
    return found


def run_chunks(
    tensors: Sequence[Rows], work: Callable[[int, int, int], Any], pool: ThreadPoolExecutor, chunk: int = CHUNK
) -> list[list[Any]]:
    """Calls `work` (which tensor, begin, end) over all tensors in chunks; the results of each tensor, in order."""
    pending = [
        [pool.submit(work, which, begin, min(begin + chunk, t.values.size)) for begin in range(0, t.values.size, chunk)]
        for which, t in enumerate(tensors)
    ]
    return [[part.result() for part in parts] for parts in pending]


def _figures(bits: tuple[int, ...], size: int, sums: NDArray[np.float64], signal: float) -> WeightErrors:
    noise, common = np.where(sums[..., 0] > RESOLUTION * signal, sums[..., 0], 0.0), sums[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        sqnr = np.where((noise > 0) & (signal > 0), 10 * np.log10(signal / noise), np.nan)
        energy = signal - 2 * common + noise  # Σx̂² of x̂ = x − e
        cosine = np.where((signal > 0) & (energy > 0), (signal - common) / np.sqrt(signal * energy), np.nan)
    return WeightErrors(bits, noise / size, sqnr, np.minimum(cosine, 1.0))
