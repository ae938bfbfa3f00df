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

from quantizers.adapter import Batch
from quantizers.numerics import dequantize
from quantizers.schema import QuantizedLayer, QuantizedTensor, QuantParams

BINS = 120
MOST_BINS = 160
MOST_CODE_BITS = 8
Arrays = dict[str, NDArray[Any]]


def weight_distributions(layers: Sequence[QuantizedLayer]) -> Arrays:
    """Histograms of every layer's weight.

    What there is: edges, float, quantized, codes (8 bits and fewer), channel_axis, channel_min, channel_max, clip (per tensor)
    or clip_low and clip_high (per channel or group).
    """
    return {f"{layer.name}|weight|{what}": array for layer in layers for what, array in _weight(layer.weight).items()}


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
    first, last = np.floor(low / scale + zero + 0.5), np.ceil(high / scale + zero - 0.5)
    codes_per_bin = max(1, int(np.ceil((last - first + 1) / MOST_BINS)))
    count = int(np.ceil((last - first + 1) / codes_per_bin))
    edges: NDArray[np.float64] = (first - 0.5 + codes_per_bin * np.arange(count + 1) - zero) * scale
    return edges


def _plain_edges(low: float, high: float) -> NDArray[np.float64]:
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _counts(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts of every value: those beyond the last edge, by rounding or by clipping, fall into the outermost bins."""
    inside = np.clip(values.ravel().astype(np.float64), edges[0], edges[-1])
    return np.histogram(inside, edges)[0].astype(np.int64)


def _weight(weight: QuantizedTensor) -> Arrays:
    assert weight.codes is not None, "weights always carry what is stored"
    assert weight.reference is not None, "weights always carry what they stand for"
    reference, params = weight.reference, weight.params
    restored = weight.codes.astype(np.float64) if params is None else dequantize(weight.codes, params)
    low = min(float(reference.min()), float(restored.min()))
    high = max(float(reference.max()), float(restored.max()))
    edges = bin_edges(low, high, params)
    axis = _channel_axis(weight)
    rows = np.moveaxis(reference, axis, 0).reshape(reference.shape[axis], -1)
    arrays: Arrays = {
        "edges": edges,
        "float": _counts(reference, edges),
        "quantized": _counts(restored, edges),
        "channel_axis": np.array(axis),
        "channel_min": rows.min(axis=1),
        "channel_max": rows.max(axis=1),
    }
    return arrays if params is None else arrays | _grid(weight.codes, params)


def _grid(codes: NDArray[Any], params: QuantParams) -> Arrays:
    arrays: Arrays = {}
    if params.bits <= MOST_CODE_BITS:
        arrays["codes"] = np.bincount(codes.ravel().astype(np.int64) - params.qmin, minlength=params.qmax - params.qmin + 1)
    low = params.scale * (params.qmin - params.zero_point)
    high = params.scale * (params.qmax - params.zero_point)
    if params.scale.size == 1:
        return arrays | {"clip": np.array([low[0], high[0]])}
    return arrays | {"clip_low": low, "clip_high": high}


def _channel_axis(weight: QuantizedTensor) -> int:
    """The axis of output channels; a depthwise TFLite kernel (1, H, W, C) has them last."""
    assert weight.reference is not None
    if weight.params is not None and weight.params.axis is not None:
        return weight.params.axis
    shape = weight.reference.shape
    return len(shape) - 1 if len(shape) == 4 and shape[0] == 1 else 0
