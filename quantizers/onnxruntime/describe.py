"""The layers of an artefact: operations with the model's layer names, float weights, and what the runtime makes of them.

What a file says and what is computed differ: QDQ pairs become int8 kernels only where the runtime has one. So it is asked to
save the graph it optimized, and a layer runs in int8 when its codes are read there by an integer operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quantizers.adapter import Request
from quantizers.errors import ConversionFailed
from quantizers.numerics import dequantize
from quantizers.onnxruntime.blocks import KIND, has_integer_kernel
from quantizers.onnxruntime.graph import Graph
from quantizers.onnxruntime.reader import DYNAMIC, DYNAMIC_BLOCKS, QUANTIZED, REPLACED_GEMM, Tensor, WeightedOp, read
from quantizers.onnxruntime.session import OnnxSession
from quantizers.schema import Mode, QuantizedLayer, QuantizedTensor, Role

INTEGER_KERNELS = (
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "ConvInteger",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
)
_ADDED_BY_TOOLS = (QUANTIZED, REPLACED_GEMM)
"""What the runtime's tools put behind the name of a node they replace, outermost first."""


@dataclass(frozen=True, eq=False)
class Record:
    """A layer, and the tensor of the file that holds its output."""

    layer: QuantizedLayer
    output: str


def by_layer(ops: Sequence[WeightedOp], names: Sequence[str]) -> dict[str, WeightedOp]:
    """Operations by the model's name of their layer, in the model's order: parallel branches have none of their own.

    Raises:
        ConversionFailed: an operation belongs to no layer, or a layer has none.
    """
    found = {_layer_name(op.name, names): op for op in ops}
    if set(found) != set(names):
        odd = ", ".join(sorted(set(found) ^ set(names)))
        raise ConversionFailed(f"The layers of the model and of the converted file are not the same: {odd}.")
    return {name: found[name] for name in names}


def _layer_name(name: str, layers: Sequence[str]) -> str:
    for suffix in _ADDED_BY_TOOLS:
        name = name if name in layers else name.removesuffix(suffix)
    return name


def describe(path: Path, float_ops: Mapping[str, WeightedOp], request: Request, folder: Path) -> list[Record]:
    """The weighted layers of the file at `path`, in the order of `float_ops`, which are those of the prepared float model."""
    model = onnx.load(path)
    ops = by_layer(read(model), list(float_ops))
    kernels = kernels_by_constant(path, folder)
    records = []
    for name, op in ops.items():
        integer = runs_in_integers(op, kernels)
        layer = QuantizedLayer(
            name=name,
            native_name=op.name,
            op=op.kind,
            quantized=op.weight.dtype != "float32",
            weight=_tensor(name, Role.WEIGHT, op.weight, _reference(op, float_ops[name])),
            why_not=_why_not(name, op, request, integer),
            bias=_bias(name, op, float_ops[name]),
            inputs=(_tensor(name, Role.INPUT, op.input),),
            output=_tensor(name, Role.OUTPUT, op.output),
            runs_in="int8" if integer else "float32",
        )
        records.append(Record(layer, op.output.name))
    return records


def runs_in_integers(op: WeightedOp, kernels: Mapping[str, str]) -> bool:
    """Whether the runtime computes a layer with integers; `kernels` as `kernels_by_constant` gives them."""
    params = op.weight.params
    if op.input.dtype == DYNAMIC_BLOCKS and params is not None and params.group_size is not None:
        return has_integer_kernel(params.bits, params.group_size)
    return kernels.get(op.weight.name, "") in INTEGER_KERNELS


def kernels_by_constant(path: Path, folder: Path) -> dict[str, str]:
    """The kind of operation that reads each constant first, in the graph that the runtime makes of the file at `path`."""
    optimized = folder / "optimized.onnx"
    OnnxSession(path, optimized=optimized)
    graph = Graph(onnx.load(optimized))
    return {name: node.op_type for node in reversed(graph.nodes) for name in node.input if graph.is_constant(name)}


def _reference(op: WeightedOp, float_op: WeightedOp) -> NDArray[np.float32]:
    """The float weights in the layout of the stored ones."""
    assert float_op.weight.data is not None
    assert op.weight.data is not None
    values = float_op.weight.data
    if float_op.weight.params is not None:  # The model came quantized: what it stands for is all the float there is.
        values = dequantize(values, float_op.weight.params).astype(np.float32)
    if op.rows_first != float_op.rows_first:
        values = values.T
    return np.ascontiguousarray(values.reshape(op.weight.data.shape), np.float32)


def _bias(layer: str, op: WeightedOp, float_op: WeightedOp) -> QuantizedTensor | None:
    if op.bias is None:
        return None
    return _tensor(layer, Role.BIAS, op.bias, None if float_op.bias is None else float_op.bias.data)


def _tensor(layer: str, role: Role, tensor: Tensor, reference: NDArray[np.float32] | None = None) -> QuantizedTensor:
    return QuantizedTensor(tensor.name, layer, role, tensor.dtype, tensor.params, tensor.data, reference)


def _why_not(layer: str, op: WeightedOp, request: Request, integer: bool) -> str | None:
    """Why a layer is not quantized, or is and does not run in integers; None when there is nothing to explain."""
    stored, technique = op.weight.dtype, request.technique
    if stored == "float32":
        if technique.mode is Mode.FLOAT32:
            return "The float baseline quantizes nothing."
        if layer in request.keep_float or technique.mode is Mode.MIXED:
            return "Kept in float, as asked."
        if request.options.get("op_types") == "dense":
            return "Only dense layers were asked for."
        if technique.mode is Mode.DYNAMIC and technique.group_size:
            return "MatMulNBits, which rounds activations as it runs, takes the place of dense layers alone."
        if op.inside:
            return f"It sits inside {op.inside}, where the runtime's tools quantize nothing."
        return "ONNX Runtime left this layer in float."
    if integer:
        return None
    if stored == "float16":
        return "Stored in float16, cast to float32 when the model is loaded: the CPU kernels compute in float32."
    if op.kind == KIND:
        return f"Stored in {stored}, multiplied in float32 block by block by MatMulNBits."
    if op.input.params is None and op.input.dtype != DYNAMIC:
        return f"Stored in {stored}, turned into float32 at every inference, because activations are float."
    types = f"{op.input.dtype} activations with {stored} weights"
    return f"Stored in {stored}, computed in float32: ONNX Runtime has no fused kernel for {types} at this place in the graph."
