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


class OutputHistograms:
    """Histograms of every layer's output, from two passes over the same batches: `look` finds the ranges, `count` counts.

    What `arrays` holds: edges, float, quantized.
    """

    def __init__(self, layers: Sequence[QuantizedLayer]) -> None:
        self._grids = {layer.name: layer.output.params if layer.output else None for layer in layers}
        self._ranges = dict.fromkeys(self._grids, (np.inf, -np.inf))
        self._counts: dict[tuple[str, str], NDArray[np.int64]] = {}

    def look(self, reference: Mapping[str, Batch], estimate: Mapping[str, Batch]) -> None:
        """Widens the ranges by one batch of both models' outputs."""
        for name, (low, high) in self._ranges.items():
            both = reference[name], estimate[name]
            self._ranges[name] = min(low, *(float(one.min()) for one in both)), max(high, *(float(one.max()) for one in both))

    def count(self, reference: Mapping[str, Batch], estimate: Mapping[str, Batch]) -> None:
        """Counts one batch, within ranges that are known."""
        for name in self._grids:
            edges = self._edges(name)
            for what, values in (("float", reference[name]), ("quantized", estimate[name])):
                self._counts[name, what] = self._counts.get((name, what), 0) + _counts(values, edges)

    def arrays(self) -> Arrays:
        edges = {f"{name}|output|edges": self._edges(name) for name in self._grids}
        return edges | {f"{name}|output|{what}": counts for (name, what), counts in self._counts.items()}

    def _edges(self, name: str) -> NDArray[np.float64]:
        return bin_edges(*self._ranges[name], self._grids[name])


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
