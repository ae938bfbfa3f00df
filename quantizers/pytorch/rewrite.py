"""Puts rounded weights into a program, in the place of the float ones.

Integers of 8 bits without groups stand behind PT2E's own dequantize operation, the form that int8 kernels are found by;
all others are packed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import GraphModule, Node

from quantizers import numerics
from quantizers.pytorch import packing, weights
from quantizers.pytorch.choice import BINARY, HALF, TERNARY, Kinds
from quantizers.pytorch.describe import Weights
from quantizers.pytorch.graph import aten, constant, decomposed, is_dequantize, is_packed, layer_name, layers
from quantizers.pytorch.weights import Choice, Rounded
from quantizers.schema import Integers, QuantParams

_WIDTHS = {"int1": 1, "int2": 2, "int4": 4, "int8": 8}


def rounded(kinds: Kinds, references: Weights, choice: Choice) -> dict[str, Rounded]:
    """Codes and grid of every layer whose weight becomes integers, by layer name."""
    found: dict[str, Rounded] = {}
    for name, kind in kinds.items():
        if kind == BINARY:
            found[name] = numerics.binary(references[name])
        elif kind == TERNARY:
            found[name] = numerics.ternary(references[name])
        elif kind not in (None, HALF):
            found[name] = weights.integers(references[name], int(kind[1:]), choice)
    return found


def rewrite(program: GraphModule, kinds: Kinds, references: Weights, codes: Mapping[str, Rounded]) -> GraphModule:
    """Changes `program` in place: every layer of `kinds` gets the weight it should have."""
    for layer in layers(program.graph):
        name = layer_name(layer)
        weight: Any = layer.args[1]
        if kinds[name] is None:
            continue
        with program.graph.inserting_before(layer):
            if kinds[name] == HALF:
                stored = _constant(program, layer, "float16", references[name].astype(np.float16))
                source = program.graph.call_function(aten.to.dtype, (stored, torch.float32))
            else:
                source = _integers(program, layer, references[name].shape, *codes[name])
        layer.replace_input_with(weight, source)
        if not weight.users:
            program.graph.erase_node(weight)
    program.graph.lint()
    program.recompile()
    return program


def pack_narrow(program: GraphModule) -> GraphModule:
    """Changes `program` in place: codes that use 4 bits, but that PT2E stores in 8, are packed."""
    for layer in layers(program.graph):
        dequantize: Any = layer.args[1]
        if not is_dequantize(dequantize) or dequantize.args[5] != 7:
            continue
        codes, scale = (constant(program, node).numpy() for node in dequantize.args[:2])
        params = QuantParams(scale, np.zeros(1, np.int64), -7, 7, "int4", axis=0)
        with program.graph.inserting_before(layer):
            layer.replace_input_with(dequantize, _integers(program, layer, codes.shape, codes, params))
    program.graph.eliminate_dead_code()
    program.recompile()
    return program


def set_codes(program: GraphModule, layer: Node, codes: Integers) -> None:
    """Overwrites the stored codes of a layer that `rewrite` gave integers."""
    source: Any = layer.args[1]
    stored = constant(program, source.args[0])
    new = packing.pack(codes, source.args[3]) if is_packed(source) else codes.astype(np.int8)
    stored.copy_(torch.from_numpy(new).reshape(stored.shape))


def _integers(program: GraphModule, layer: Node, shape: tuple[int, ...], codes: Integers, params: QuantParams) -> Node:
    if params.dtype == "int8" and params.group_size is None and params.qmin == -params.qmax:
        return _plain(program, layer, codes, params)
    bits, channels = _WIDTHS[params.dtype], shape[0]
    zero = None
    if params.qmin != -params.qmax:
        zero = _constant(program, layer, "zero_point", params.zero_point.astype(np.int8).reshape(channels, -1))
    arguments = (
        _constant(program, layer, params.dtype, packing.pack(codes, bits)),
        _constant(program, layer, "scale", params.scale.astype(np.float32).reshape(channels, -1)),
        zero,
        bits,
        params.group_size or int(np.prod(shape[1:])),
        list(shape),
    )
    return program.graph.call_function(packing.OPERATION, arguments)


def _plain(program: GraphModule, layer: Node, codes: Integers, params: QuantParams) -> Node:
    stored = _constant(program, layer, "int8", codes.astype(np.int8))
    limits = (params.qmin, params.qmax, torch.int8)
    if params.axis is None:
        arguments = (stored, float(params.scale[0]), 0, *limits)
        return program.graph.call_function(decomposed.dequantize_per_tensor.default, arguments)
    scale = _constant(program, layer, "scale", params.scale.astype(np.float32))
    zero = _constant(program, layer, "zero_point", params.zero_point)
    return program.graph.call_function(decomposed.dequantize_per_channel.default, (stored, scale, zero, params.axis, *limits))


def _constant(program: GraphModule, layer: Node, kind: str, values: NDArray[Any]) -> Node:
    name = f"{layer.name}_weight_{kind}"
    program.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))
    return program.graph.get_attr(name)
