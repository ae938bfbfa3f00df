"""The layers of an artefact, read from its graph: every code, scale and zero point is the stored one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.fx import GraphModule, Node

from quantizers.numerics import integer_range
from quantizers.pytorch.graph import (
    CONVOLUTIONS_3D,
    DENSE,
    array,
    aten,
    constant,
    is_cast,
    is_dequantize,
    is_dynamic,
    is_packed,
    is_quantize,
    layer_name,
    layers,
    output_of,
    quant_params,
    type_name,
)
from quantizers.pytorch.packing import unpack
from quantizers.schema import QuantizedLayer, QuantizedTensor, QuantParams, Role

Weights = Mapping[str, NDArray[np.float32]]
_FLOAT = "stored in int8 but computed in float32"
NOT_FUSED = f"{_FLOAT}: PyTorch has no fused int8 kernel for this place in the graph"
NO_3D = f"{_FLOAT}: PyTorch has fused int8 convolutions of one and two dimensions only"
REARRANGED = f"{_FLOAT}: its input is transposed right before it, which PyTorch's pattern for int8 dense layers does not cover"
_REARRANGING = (aten.transpose.int, aten.permute.default)


def describe(
    program: GraphModule, references: Weights, reasons: Mapping[str, str | None], fused: frozenset[str]
) -> tuple[QuantizedLayer, ...]:
    """Every layer of `program` that stores its weight, in execution order.

    Args:
        references: float weights with batch norms folded, by layer name; of one that computes its weight there is none.
        reasons: why a layer was not quantized, by layer name.
        fused: names of the layers that run in int8 kernels here.
    """
    named = ((node, references.get(layer_name(node))) for node in layers(program.graph))
    return tuple(_layer(program, node, weight, reasons, fused) for node, weight in named if weight is not None)


def _layer(
    program: GraphModule,
    node: Node,
    reference: NDArray[np.float32],
    reasons: Mapping[str, str | None],
    fused: frozenset[str],
) -> QuantizedLayer:
    name = layer_name(node)
    weight = _weight(program, node, reference)
    quantized = weight.dtype != "float32"
    lone = _why_alone(node) if fused and name not in fused else None
    return QuantizedLayer(
        name=name,
        native_name=node.name,
        op=str(node.target).removesuffix(".default"),
        quantized=quantized,
        weight=weight,
        why_not=lone if quantized else reasons[name],
        bias=_bias(program, node),
        inputs=(_input(program, node),),
        output=_output(program, node),
        runs_in="int8" if name in fused else _computed_in(node),
    )


def _why_alone(layer: Node) -> str:
    """Why a quantized layer of a model with int8 kernels has none."""
    if layer.target in CONVOLUTIONS_3D:
        return NO_3D
    source: Any = layer.args[0]
    read = source.args[0].args[0] if is_dequantize(source) and is_quantize(source.args[0]) else source
    return REARRANGED if layer.target in DENSE and read.target in _REARRANGING else NOT_FUSED


def _weight(program: GraphModule, layer: Node, reference: NDArray[np.float32]) -> QuantizedTensor:
    source: Any = layer.args[1]
    if is_packed(source):
        return _packed_weight(program, layer, reference)
    params = quant_params(program, source) if is_dequantize(source) else None
    stored = source.args[0] if params or is_cast(source) else source
    dtype = type_name(constant(program, stored).dtype)
    codes = array(program, stored)
    return QuantizedTensor(str(stored.target), layer_name(layer), Role.WEIGHT, dtype, params, codes, reference)


def _packed_weight(program: GraphModule, layer: Node, reference: NDArray[np.float32]) -> QuantizedTensor:
    """Groups run along all weights of a channel, so codes with groups, and what they stand for, have one row a channel.

    At one bit the codes are −1 and 1 with nothing between, which a range of integers cannot say: only `dtype` does.
    """
    operation: Any = layer.args[1]
    packed, scale, zero, bits, group_size, shape = operation.args
    grouped = array(program, scale).shape[1] > 1
    qmin, qmax = (-1, 1) if bits == 1 else integer_range(bits, narrow=zero is None)
    params = QuantParams(
        scale=array(program, scale),
        zero_point=array(program, zero) if zero is not None else np.zeros(1, np.int64),
        qmin=qmin,
        qmax=qmax,
        dtype=f"int{bits}",
        axis=None if grouped else 0,
        group_size=group_size if grouped else None,
    )
    codes = unpack(constant(program, packed), bits, shape).numpy()
    rows = (len(codes), -1) if grouped else codes.shape
    return QuantizedTensor(
        str(packed.target), layer_name(layer), Role.WEIGHT, params.dtype, params, codes.reshape(rows), reference.reshape(rows)
    )


def _bias(program: GraphModule, layer: Node) -> QuantizedTensor | None:
    source: Any = layer.args[2] if len(layer.args) > 2 else None
    if source is None:
        return None
    values, dtype = array(program, source), type_name(constant(program, source).dtype)
    return QuantizedTensor(str(source.target), layer_name(layer), Role.BIAS, dtype, None, values, values.astype(np.float32))


def _input(program: GraphModule, layer: Node) -> QuantizedTensor:
    source: Any = layer.args[0]
    if not is_dequantize(source):
        return QuantizedTensor(source.name, layer_name(layer), Role.INPUT, _computed_in(source))
    quantize = source.args[0]
    return _activation(program, quantize, layer, Role.INPUT)


def _output(program: GraphModule, layer: Node) -> QuantizedTensor:
    """What the next operation reads: integers when any reader quantizes it."""
    node = output_of(layer)
    quantize = next((user for user in node.users if is_quantize(user)), None)
    if quantize is None or is_dynamic(quantize):
        return QuantizedTensor(node.name, layer_name(layer), Role.OUTPUT, _computed_in(node))
    return _activation(program, quantize, layer, Role.OUTPUT)


def _computed_in(node: Node) -> str:
    """The type of a node's value, which need not be that of the program's input."""
    return type_name(node.meta["val"].dtype)


def _activation(program: GraphModule, quantize: Node, layer: Node, role: Role) -> QuantizedTensor:
    source: Any = quantize.args[0]
    if is_dynamic(quantize):
        return QuantizedTensor(source.name, layer_name(layer), role, f"{type_name(quantize.args[5])} (dynamic)")
    params = quant_params(program, quantize)
    return QuantizedTensor(source.name, layer_name(layer), role, params.dtype, params)
