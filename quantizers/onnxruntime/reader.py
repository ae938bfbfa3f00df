"""Reads an .onnx as data: its weighted operations with every tensor's type and parameters, in whichever form they are stored.

Four forms occur. QDQ keeps the float operation, with DequantizeLinear before its inputs and QuantizeLinear behind its output;
QOperator has one operation with the parameters among its inputs (QLinearConv, QGemm, QLinearMatMul); dynamic quantization has
ConvInteger or MatMulInteger, whose scales are multiplied in afterwards; MatMulNBits packs codes and has parameters per block.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, and ContribOperators.md for the
operations of the com.microsoft domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from quantizers.numerics import integer_range
from quantizers.onnxruntime.blocks import KIND, rounds_activations, unpack
from quantizers.onnxruntime.graph import Graph, attribute
from quantizers.schema import QuantParams

DYNAMIC = "uint8 (dynamic)"
"""The type of an activation whose range is measured anew at each inference; DynamicQuantizeLinear knows this one type."""
DYNAMIC_BLOCKS = "int8 (dynamic)"
"""The type of an activation that a MatMulNBits rounds as it runs, each block of each row by itself."""
REPLACED_GEMM = "_MatMul"
"""What the runtime's tool for dynamic quantization puts behind the name of a Gemm when it writes it as MatMul and Add."""
QUANTIZED = "_quant"
"""What the same tools put behind the name of a node that they replace."""
_FLOAT_KINDS = ("Conv", "Gemm", "MatMul")
_QUANTIZED_KINDS = ("QLinearConv", "QGemm", "QLinearMatMul")
_INTEGER_KINDS = ("ConvInteger", "MatMulInteger")
_FUSED_ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the file; `data` holds a constant's stored values and is None for what is computed."""

    name: str
    dtype: str = "float32"
    params: QuantParams | None = None
    data: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class WeightedOp:
    """A convolution or a dense operation with a constant weight.

    Attributes:
        name, kind: of its node in the file.
        weight: Conv [out, in, kh, kw], or [out, in·kh·kw] where it is quantized in groups; dense [out, in], or [in, out] when
            `rows_first`.
        output: what the next operation reads: after the bias, a fused activation function and the quantization behind it.
        inside: the kind of node that holds it in a graph of its own, such as If; None in the main graph.
    """

    name: str
    kind: str
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    output: Tensor
    rows_first: bool
    inside: str | None = None


def read(model: ModelProto) -> Sequence[WeightedOp]:
    """The weighted operations of all graphs, in the order they are written.

    Raises:
        ValueError: an operation is not written as the standard or the runtime's tools write it.
    """
    graph = Graph(model)
    found = (_placed(graph, node) for node in graph.nodes)
    return [op for op in found if op is not None]


def read_each(model: ModelProto) -> tuple[list[WeightedOp], list[str]]:
    """As `read`, for files that anybody wrote: what cannot be read is left out, with a sentence on each."""
    graph, ops, problems = Graph(model), [], []
    for node in graph.nodes:
        try:
            op = _placed(graph, node)
        except (ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
            problems.append(f"{node.name} ({node.op_type}) cannot be read: {error}")
        else:
            ops += [] if op is None else [op]
    return ops, problems


def _placed(graph: Graph, node: NodeProto) -> WeightedOp | None:
    """The operation of a node. Nothing inside a node can be looked at from outside, so the holder's output stands for it."""
    op, holder = _read(graph, node), graph.holder(node)
    if op is None or holder is None:
        return op
    return replace(op, output=Tensor(next(name for name in holder.output if name)), inside=holder.op_type)


def _read(graph: Graph, node: NodeProto) -> WeightedOp | None:
    kind = node.op_type
    if kind in _QUANTIZED_KINDS:
        return _read_quantized(graph, node)
    if kind in _INTEGER_KINDS:
        return _read_integer(graph, node)
    if kind == KIND:
        source = Tensor(node.input[0], DYNAMIC_BLOCKS) if rounds_activations(node) else _activation(graph, node.input[0])
        bias, output = _constant(graph, _input(node, 5)), _handed_on(graph, node.output[0])
        return WeightedOp(node.name, kind, source, _unpacked(graph, node), bias, output, False)
    return _read_float(graph, node) if kind in _FLOAT_KINDS else None


def _read_float(graph: Graph, node: NodeProto) -> WeightedOp | None:
    weight = _constant(graph, _input(node, 1))
    if weight is None or not _is_weight(node.op_type, weight):
        return None  # A product of two computed tensors has no weight.
    kind, bias, output = node.op_type, _constant(graph, _input(node, 2)), node.output[0]
    if kind == "MatMul":
        bias, output = _added(graph, output)
    rows_first = kind == "MatMul" or (kind == "Gemm" and not attribute(node, "transB", 0))
    rows_first ^= graph.producer(node.input[1], "Transpose") is not None
    return WeightedOp(node.name, kind, _activation(graph, node.input[0]), weight, bias, _handed_on(graph, output), rows_first)


def _is_weight(kind: str, tensor: Tensor) -> bool:
    """Whether a constant is the kernel of a convolution or a matrix, of numbers that quantization is about."""
    assert tensor.data is not None
    axes = tensor.data.ndim >= 2 if kind == "Conv" else tensor.data.ndim == 2
    return axes and tensor.data.size > 0 and tensor.dtype not in ("float64", "bool", "string")


def _read_quantized(graph: Graph, node: NodeProto) -> WeightedOp | None:
    x, x_scale, x_zero, w, w_scale, w_zero, *rest = node.input
    if not graph.is_constant(w):
        return None
    if node.op_type == "QGemm":
        bias, (y_scale, y_zero) = rest[0], rest[1:]
    else:
        y_scale, y_zero, bias = (*rest, "")[:3]
    rows_first = node.op_type != "QLinearConv" and not attribute(node, "transB", 0)
    axis = int(rows_first)
    weight = Tensor(w, graph.dtype(w), _params(graph, w, w_scale, w_zero, axis, weight=True), graph.array(w))
    activation = _quantized(graph, x, x_scale, x_zero)
    stored_bias = None
    if bias:
        scale = activation.params.scale * weight.params.scale if activation.params and weight.params else np.ones(1)
        params = QuantParams(scale, np.zeros(1, np.int64), *integer_range(32), "int32", 0 if scale.size > 1 else None)
        stored_bias = Tensor(bias, graph.dtype(bias), params, graph.array(bias))
    output = _quantized(graph, node.output[0], y_scale, y_zero)
    return WeightedOp(node.name, node.op_type, activation, weight, stored_bias, output, rows_first)


def _read_integer(graph: Graph, node: NodeProto) -> WeightedOp | None:
    """ConvInteger or MatMulInteger: a Cast and a Mul by (input scale × weight scale) turn the sums into real numbers."""
    w, w_zero = node.input[1], _input(node, 3)
    if not graph.is_constant(w):
        return None
    name, scales = node.output[0], ""
    for kind in ("Cast", "Mul"):
        step = graph.sole_reader(name, kind)
        if step is None:
            raise ValueError(f"{node.name}: no {kind} follows {node.op_type}")
        scales = next((source for source in step.input if source != name), "")
        name = step.output[0]
    product = graph.producer(scales, "Mul")
    if product is None:
        raise ValueError(f"{node.name}: the scales of {node.op_type} are not a product")
    w_scale = next(source for source in product.input if graph.is_constant(source))
    rows_first = node.op_type == "MatMulInteger"
    weight = Tensor(w, graph.dtype(w), _params(graph, w, w_scale, w_zero, int(rows_first), weight=True), graph.array(w))
    bias, name = _added(graph, name)
    activation = Tensor(node.input[0], DYNAMIC)
    return WeightedOp(node.name, node.op_type, activation, weight, bias, _handed_on(graph, name), rows_first)


def _input(node: NodeProto, index: int) -> str:
    """The name of an optional input, empty where there is none."""
    return str(node.input[index]) if index < len(node.input) else ""


def _constant(graph: Graph, name: str) -> Tensor | None:
    """What is stored behind an input: a float constant, one cast from float16, or the codes of a DequantizeLinear."""
    while (step := graph.producer(name, "Reshape", "Cast", "Transpose")) is not None:
        name = step.input[0]
    if graph.is_constant(name):
        return Tensor(name, graph.dtype(name), None, graph.array(name))
    step = graph.producer(name, "DequantizeLinear")
    if step is None or not graph.is_constant(step.input[0]):
        return None
    codes, scale, zero = step.input[0], step.input[1], _input(step, 2)
    axis, block = attribute(step, "axis", 1), attribute(step, "block_size", 0)
    params = _params(graph, codes, scale, zero, axis, weight=True, block=block)
    return Tensor(codes, graph.dtype(codes), params, graph.array(codes))


def _unpacked(graph: Graph, node: NodeProto) -> Tensor:
    """The weight of a MatMulNBits as unsigned codes [N, K]; the file packs them, lowest bits first, in blocks along K."""
    bits, size, block = (attribute(node, key, 4) for key in ("bits", "K", "block_size"))
    packed, scale = graph.array(node.input[1]), graph.array(node.input[2]).ravel()
    middle = 1 << (bits - 1)
    codes = unpack(packed, bits).reshape(len(packed), -1)[:, :size]
    blocks = -(-size // block)
    zero_point = np.full(scale.shape, middle)
    if zero := _input(node, 3):
        zero_point = unpack(graph.array(zero).reshape(len(packed), -1), bits)[:, :blocks].ravel()
    dtype = f"uint{bits}"
    params = QuantParams(scale, zero_point, *integer_range(bits, signed=False), dtype, group_size=block)
    return Tensor(node.input[1], dtype, params, codes)


def _activation(graph: Graph, name: str) -> Tensor:
    """What an operation's input stands for: the integers before its DequantizeLinear, or the float tensor itself."""
    step = graph.producer(name, "DequantizeLinear")
    return Tensor(name) if step is None else _quantized(graph, *step.input[:3])


def _quantized(graph: Graph, name: str, scale: str, zero: str) -> Tensor:
    params = _params(graph, zero, scale, zero, 0, weight=False)
    return Tensor(name, params.dtype, params)


def _added(graph: Graph, name: str) -> tuple[Tensor | None, str]:
    """The bias that an Add behind a product puts on, and the sum's name; None when the next operation is no such Add."""
    step = graph.sole_reader(name, "Add")
    other = next((source for source in step.input if source != name), "") if step is not None else ""
    bias = _constant(graph, other)
    return (None, name) if step is None or bias is None else (bias, step.output[0])


def _handed_on(graph: Graph, name: str) -> Tensor:
    """The tensor that the next operation reads."""
    fused = graph.sole_reader(name, *_FUSED_ACTIVATIONS)
    if fused is not None:
        name = fused.output[0]
    quantize = next((reader for reader in graph.readers(name) if reader.op_type == "QuantizeLinear"), None)
    return Tensor(name) if quantize is None else _quantized(graph, quantize.output[0], *quantize.input[1:3])


def _params(graph: Graph, codes: str, scale: str, zero: str, axis: int, *, weight: bool, block: int = 0) -> QuantParams:
    """Parameters stored as tensors. Symmetric int8 and int16 weights leave out the lowest code, as the runtime's tools do."""
    dtype = graph.dtype(codes)
    scales = graph.array(scale).astype(np.float64)
    zeros = graph.array(zero).astype(np.int64) if zero else np.zeros(1, np.int64)
    narrow = weight and dtype in ("int8", "int16") and not zeros.any()
    bits = int(dtype.removeprefix("u").removeprefix("int"))
    qmin, qmax = integer_range(bits, signed=dtype.startswith("int"), narrow=narrow)
    along = axis if scales.size > 1 and not block else None
    return QuantParams(scales, zeros, qmin, qmax, dtype, along, block or None)
