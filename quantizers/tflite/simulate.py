"""Binary and ternary weights, imitated: TFLite has no kernel for them, so their values are written into a float .tflite."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from quantizers.numerics import binary, dequantize, ternary
from quantizers.schema import Mode, QuantParams, Technique
from quantizers.tflite.reader import Tensor, WeightedOp, read

WHY = "TFLite has no kernels for binary or ternary weights: their values are stored as float32 and computed with in float32."


def covers(technique: Technique) -> bool:
    """Whether `technique` is imitated in a float file."""
    return technique.mode in (Mode.BINARY, Mode.TERNARY)


def quantize(float_file: bytes, technique: Technique, kept: Collection[str]) -> bytes:
    """A float .tflite with the weights of all operations but those computing the tensors `kept` on their coarse grid."""
    model = flatbuffer_utils.read_model_from_bytearray(float_file)
    for op in read(float_file):
        if op.output.name not in kept:
            index = model.subgraphs[0].tensors[op.weight.index].buffer
            model.buffers[index].data = np.frombuffer(_rounded(op, technique).tobytes(), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _rounded(op: WeightedOp, technique: Technique) -> NDArray[np.float32]:
    weight, _ = _channels(op)
    round_to = binary if technique.mode is Mode.BINARY else ternary
    return dequantize(*round_to(weight, op.channel_axis)).astype(np.float32)


def grid(op: WeightedOp, technique: Technique) -> tuple[NDArray[np.int8], QuantParams]:
    """The codes −1, 0, 1 and the scales (α of each output channel) that a weight of a file made here holds."""
    weight, others = _channels(op)
    level = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(level > 0, level, 1.0)
    dtype = "int1" if technique.mode is Mode.BINARY else "int2"
    params = QuantParams(scale.ravel(), np.zeros(scale.size, np.int64), -1, 1, dtype, op.channel_axis)
    return np.rint(weight / scale).astype(np.int8), params


def _channels(op: WeightedOp) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """The weight, and its axes within one output channel."""
    weight: Tensor = op.weight
    assert weight.data is not None
    values: NDArray[Any] = weight.data.astype(np.float64)
    return values, tuple(axis for axis in range(values.ndim) if axis != op.channel_axis)
