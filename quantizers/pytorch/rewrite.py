"""Puts weights that were rounded by `weights` into a program, in the place of the float ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch.fx import GraphModule, Node

from quantizers import numerics
from quantizers.pytorch import packing, weights
from quantizers.pytorch.choice import BINARY, HALF, TERNARY, Kinds
from quantizers.pytorch.describe import Weights
from quantizers.pytorch.graph import aten, layer_name, layers
from quantizers.schema import Floats

_WIDTHS = {"int1": 1, "int2": 2, "int4": 4, "int8": 8}


def rewrite(program: GraphModule, kinds: Kinds, references: Weights, *, group_size: int | None, search: bool) -> GraphModule:
    """Changes `program` in place: every layer of `kinds` whose weight PT2E has left in float gets the type it should have."""
    recipes: Mapping[str, Callable[[Floats], weights.Rounded]] = {
        BINARY: numerics.binary,
        TERNARY: numerics.ternary,
        **{f"i{bits}": partial(weights.integers, bits=bits, group_size=group_size, search=search) for bits in (2, 4, 8)},
    }
    for layer in layers(program.graph):
        name = layer_name(layer)
        kind, weight = kinds[name], layer.args[1]
        if kind is None or not isinstance(weight, Node) or weight.op != "get_attr":
            continue
        with program.graph.inserting_before(layer):
            source = (
                _half(program, layer, references[name])
                if kind == HALF
                else _packed(program, layer, references[name], recipes[kind])
            )
        layer.replace_input_with(weight, source)
        if not weight.users:
            program.graph.erase_node(weight)
    program.graph.lint()
    program.recompile()
    return program


def _half(program: GraphModule, layer: Node, reference: Floats) -> Node:
    stored = _constant(program, layer, "float16", reference.astype(np.float16))
    return program.graph.call_function(aten.to.dtype, (stored, torch.float32))


def _packed(program: GraphModule, layer: Node, reference: Floats, recipe: Callable[[Floats], weights.Rounded]) -> Node:
    codes, params = recipe(reference)
    bits, channels = _WIDTHS[params.dtype], len(reference)
    zero = None
    if params.qmin != -params.qmax:
        zero = _constant(program, layer, "zero_point", params.zero_point.astype(np.int8).reshape(channels, -1))
    arguments = (
        _constant(program, layer, params.dtype, packing.pack(codes, bits)),
        _constant(program, layer, "scale", params.scale.astype(np.float32).reshape(channels, -1)),
        zero,
        bits,
        params.group_size or reference[0].size,
        list(reference.shape),
    )
    return program.graph.call_function(packing.OPERATION, arguments)


def _constant(program: GraphModule, layer: Node, kind: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Node:
    name = f"{layer.name}_weight_{kind}"
    program.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))
    return program.graph.get_attr(name)
