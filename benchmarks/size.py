"""Size: the bytes of the file one would ship, and how many bits a weight takes in it on average."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantizers.schema import QuantizedLayer, QuantizedTensor

SCALE_BYTES = 4
"""A scale is stored as float32, in a .tflite and in an exported PyTorch program alike."""
ZERO_POINT_BYTES = 8
"""A zero point is stored as int64 in both, also where it is 0."""


@dataclass(frozen=True, slots=True)
class SizeReport:
    """`ratio` is how many times smaller the file is than the float one (below 1: larger)."""

    bytes: int
    float_bytes: int
    ratio: float
    effective_bits_per_weight: float


def measure(artefact: Path, float_artefact: Path, layers: Sequence[QuantizedLayer]) -> SizeReport:
    """Sizes of an artefact beside the same backend's float32 one.

    Args:
        layers: the weighted layers of `artefact`, at least one.
    """
    size, float_size = artefact.stat().st_size, float_artefact.stat().st_size
    return SizeReport(size, float_size, float_size / size, effective_bits_per_weight(layers))


def effective_bits_per_weight(layers: Sequence[QuantizedLayer]) -> float:
    """(weight + scale + zero-point bytes) · 8 ÷ number of weights; biases count on neither side."""
    weights = [layer.weight for layer in layers]
    return 8 * sum(map(stored_bytes, weights)) / sum(map(_elements, weights))


def stored_bytes(tensor: QuantizedTensor) -> float:
    """Bytes of a constant tensor with its parameters: its values packed in their stored type, int4 in half a byte each."""
    grids = tensor.params.scale.size if tensor.params else 0
    return _elements(tensor) * type_bits(tensor.dtype) / 8 + grids * (SCALE_BYTES + ZERO_POINT_BYTES)


def type_bits(dtype: str) -> int:
    """Width of a type by its name: 8 for "int8", 16 for "bfloat16"."""
    digits = re.search(r"\d+", dtype)
    if not digits:
        raise ValueError(f"the name {dtype!r} tells no width")
    return int(digits[0])


def _elements(tensor: QuantizedTensor) -> int:
    assert tensor.codes is not None, f"{tensor.name} is no constant"
    return tensor.codes.size
