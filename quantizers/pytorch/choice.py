"""Which type each layer's weight gets: what a technique, its mixed-precision patterns and the layers kept float add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantizers.errors import UnknownName
from quantizers.schema import Mode, Technique

BINARY, TERNARY, HALF, INT8 = "binary", "ternary", "f16", "i8"
_BY_BITS = {16: HALF, 8: INT8, 4: "i4", 2: "i2"}

Kinds = Mapping[str, str | None]
"""By layer name: "i8", "i4", "i2", "f16", "binary" or "ternary"; None for a layer that stays float32."""


WEIGHT_AXES = range(2, 6)
"""Axes of what is taken for a layer's weight where only names and shapes tell: from dense layers to 3-D convolutions."""


def layer_of(tensor: str, axes: int) -> str | None:
    """The layer that a tensor is the weight of, by its name: "fc" of "fc.weight". Tables of embeddings look the same."""
    layer, _, kind = tensor.rpartition(".")
    if not kind.startswith("weight") or axes not in WEIGHT_AXES:
        return None
    return layer or tensor if kind == "weight" else tensor


def weight_kinds(technique: Technique, names: Sequence[str], keep_float: Sequence[str]) -> Kinds:
    """The type of every layer's weight.

    Raises:
        UnknownName: a layer to keep float, or a pattern of mixed precision, fits none of `names`.
    """
    for name in keep_float:
        if name not in names:
            raise UnknownName.of("layer", name, names)
    if technique.mode is Mode.MIXED:
        kinds = {name: _BY_BITS.get(bits) for name, bits in technique.bits_by_layer(names).items()}
    elif technique.mode in (Mode.BINARY, Mode.TERNARY):
        kinds = dict.fromkeys(names, technique.mode.value)
    else:
        kinds = dict.fromkeys(names, technique.weight)
    return {name: None if name in keep_float else kind for name, kind in kinds.items()}
