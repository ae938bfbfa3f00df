"""Histograms for the pages: float values and the values that stand for them, on one set of bins, and integer-code usage.

Everything is an array under the key "{layer}|{part}|{what}", part weight or output, so that a run's details are one .npz
without pickles. Where a tensor has one grid, bins hold whole numbers of codes and their edges lie half a step from a code:
a histogram of quantized values must not show a comb that only its bins made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fidelity import require_finite
from quantizers.adapter import Batch
from quantizers.numerics import broadcast, dequantize
from quantizers.schema import QuantizedLayer, QuantParams

BINS = 121
"""Odd, so that the many zeros of a symmetric range lie in the middle of a bin and not on an edge."""
MOST_BINS = 160
MOST_CODE_BITS = 8
Arrays = dict[str, NDArray[Any]]


def weight_distributions(layers: Sequence[QuantizedLayer]) -> Arrays:
    """Histograms of every layer's weight.

    What there is: edges, float, quantized, codes (8 bits and fewer), channel_axis, channel_min, channel_max, clip (per tensor)
    or, per output channel, clip_low and clip_high (of a channel's groups, the furthest).

    Raises:
        QuantizationError: a value is NaN or infinite.
    """
    return {f"{layer.name}|weight|{what}": array for layer in layers for what, array in _weight(layer).items()}


class GrowingHistogram:
    """Histograms of several series on common bins, from one pass over values whose range is not known beforehand.

    Bins lie around the multiples of a width, on a grid around its codes, so that rounding error moves no value across an edge.
    There are far more of them than are shown; whenever a value lies beyond the last of too many, three become one.
    """

    FINE_BINS = 8192
    FIRST_BINS = 2048

    def __init__(self, series: Sequence[str], params: QuantParams | None) -> None:
        self._series = series
        gridded = params is not None and params.scale.size == 1
        self._width = float(params.scale[0]) if params is not None and gridded else 0.0
        self._first = 0
        self._counts = np.zeros((len(series), 0), np.int64)

    def add(self, values: Mapping[str, Batch], low: float, high: float) -> None:
        """Counts one batch of every series, all of whose values lie in [low, high]."""
        from benchmarks._kernels import count

        if not self._width:
            extent = (high - low) or max(abs(high), 1.0)
            self._width = extent / self.FIRST_BINS
        self._cover(low, high)
        for counts, name in zip(self._counts, self._series, strict=True):
            count(values[name].astype(np.float32, copy=False).ravel("K"), 1 / self._width, self._first, counts)

    def _cover(self, low: float, high: float) -> None:
        """Makes room from `low` to `high`."""
        while self._bin(max(high, 0.0)) - self._bin(min(low, 0.0)) >= self.FINE_BINS:
            self._coarsen()
        first, last = self._bin(low), self._bin(high)
        if self._counts.shape[1]:
            first, last = min(first, self._first), max(last, self._first + self._counts.shape[1] - 1)
        grown = np.zeros((len(self._series), last - first + 1), np.int64)
        start = self._first - first
        grown[:, start : start + self._counts.shape[1]] = self._counts
        self._first, self._counts = first, grown

    def _bin(self, value: float) -> int:
        return int(np.floor(value * (1 / self._width) + 0.5))

    def _coarsen(self) -> None:
        """Joins every bin around a multiple of three with its neighbours."""
        where = np.floor((np.arange(self._counts.shape[1]) + self._first + 1) / 3).astype(np.int64)
        self._width *= 3
        if where.size:
            self._first = int(where[0])
            joined = [np.bincount(where - self._first, weights=counts).astype(np.int64) for counts in self._counts]
            self._counts = np.stack(joined)

    def arrays(self) -> Arrays:
        """`edges`, of at most MOST_BINS bins, and the counts of each series."""
        fine = self._counts.shape[1]
        joined = -(-fine // MOST_BINS)
        bins = -(-fine // joined)
        padded = np.pad(self._counts, ((0, 0), (0, bins * joined - fine))).reshape(len(self._series), bins, joined)
        edges = (self._first - 0.5 + joined * np.arange(bins + 1)) * self._width
        return {"edges": edges} | dict(zip(self._series, padded.sum(axis=2), strict=True))


def bin_edges(low: float, high: float, params: QuantParams | None) -> NDArray[np.float64]:
    """Edges that cover [low, high]; on a per-tensor grid of few enough codes they lie half a step from whole codes."""
    if params is None or params.scale.size > 1:
        return _plain_edges(low, high)
    scale, zero = float(params.scale[0]), int(params.zero_point[0])
    first, last = np.floor(low / scale + zero + 0.5), np.floor(high / scale + zero + 0.5)
    codes_per_bin = int(np.ceil((last - first + 1) / MOST_BINS))
    count = int(np.ceil((last - first + 1) / codes_per_bin))
    edges: NDArray[np.float64] = (first - 0.5 + codes_per_bin * np.arange(count + 1) - zero) * scale
    return edges


def _plain_edges(low: float, high: float) -> NDArray[np.float64]:
    if high - low <= np.finfo(np.float32).eps * max(abs(low), abs(high)):
        margin = max(1.0, abs(low)) / 2
        low, high = low - margin, high + margin
    return np.linspace(low, high, BINS + 1)


def _counts(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts of every value in bins of one width; one that rounding has put beyond an end falls into the outermost bin.

    Three times as fast as `np.histogram`, which searches the edges for every value; there are hundreds of millions.
    """
    bins = len(edges) - 1
    where = ((values.ravel() - edges[0]) * (bins / (edges[-1] - edges[0]))).astype(np.int64)
    return np.bincount(np.clip(where, 0, bins - 1), minlength=bins)


def _weight(layer: QuantizedLayer) -> Arrays:
    codes, reference, params = layer.weight.codes, layer.weight.reference, layer.weight.params
    assert codes is not None, "weights always carry what is stored"
    assert reference is not None, "weights always carry what they stand for"
    restored = codes.astype(np.float64) if params is None else dequantize(codes, params)
    require_finite(f"The weight of {layer.name}", reference, restored)
    both = reference, restored
    edges = bin_edges(min(float(one.min()) for one in both), max(float(one.max()) for one in both), params)
    axis = _channel_axis(layer)
    rows = _channels(reference, axis)
    arrays: Arrays = {
        "edges": edges,
        "float": _counts(reference, edges),
        "quantized": _counts(restored, edges),
        "channel_axis": np.array(axis),
        "channel_min": rows.min(axis=1),
        "channel_max": rows.max(axis=1),
    }
    return arrays if params is None else arrays | _grid(codes, params, axis)


def _grid(codes: NDArray[Any], params: QuantParams, axis: int) -> Arrays:
    """Use of the codes, and the range that they can represent."""
    arrays: Arrays = {}
    if params.bits <= MOST_CODE_BITS:
        arrays["codes"] = np.bincount(codes.ravel().astype(np.int64) - params.qmin, minlength=params.qmax - params.qmin + 1)
    low, high = ((bound - params.zero_point) * params.scale for bound in (params.qmin, params.qmax))
    if params.scale.size == 1:
        return arrays | {"clip": np.array([low[0], high[0]])}
    lows, highs = (_channels(broadcast(bound, codes.shape, params), axis) for bound in (low, high))
    return arrays | {"clip_low": lows.min(axis=1), "clip_high": highs.max(axis=1)}


def _channel_axis(layer: QuantizedLayer) -> int:
    """The axis of output channels: the first, but a depthwise TFLite kernel [1, H, W, C] has them last."""
    params = layer.weight.params
    if params is not None and params.axis is not None:
        return params.axis
    return 3 if layer.op == "DEPTHWISE_CONV_2D" else 0


def _channels(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """One row a channel."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
