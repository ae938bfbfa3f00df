"""What an .onnx holds as tables: its layers, every scale and zero point, and the graph that the runtime makes of it.

For the limited process only. What runs is the optimized graph, so that is what is drawn: layers fused into integer kernels or
left in float, and the QuantizeLinear and DequantizeLinear between them, are what decides speed.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from onnx import ModelProto

from quantizers.onnxruntime.describe import INTEGER_KERNELS, kernels_by_constant, runs_in_integers
from quantizers.onnxruntime.reader import Tensor, WeightedOp

MOST_SCALES = 200_000
"""Scales listed of one tensor; of more, only how many there are."""


def tables(model: ModelProto, ops: list[WeightedOp]) -> dict[str, Any]:
    """Layers, tensors and the optimized graph, for a person to read; without a graph where the runtime refuses the model."""
    kernels: dict[str, str] = {}
    graph: dict[str, Any] = {"nodes": [], "edges": []}
    with TemporaryDirectory() as name, suppress(Exception):  # What cannot be loaded has no kernels; inspecting says why.
        path = Path(name) / "model.onnx"
        onnx.save(model, path)
        kernels = kernels_by_constant(path, Path(name))
        graph = _graph(onnx.load(Path(name) / "optimized.onnx", load_external_data=False))
    return {
        "layers": [_layer(op, runs_in_integers(op, kernels)) for op in ops],
        "tensors": _tensors(ops),
        "graph": graph,
    }


def _layer(op: WeightedOp, integer: bool) -> dict[str, Any]:
    data, params = op.weight.data, op.weight.params
    return {
        "runs_in": "int8" if integer else "float32",
        "name": op.name,
        "op": op.kind,
        "dtype": op.weight.dtype,
        "shape": [] if data is None else list(data.shape),
        "scales": 0 if params is None else int(params.scale.size),
        "axis": None if params is None else params.axis,
        "group_size": None if params is None else params.group_size,
        "input": op.input.dtype,
        "output": op.output.dtype,
    }


def _tensors(ops: list[WeightedOp]) -> list[dict[str, Any]]:
    """Inputs, weights, biases and outputs of the layers; one that several share is there once."""
    found: dict[str, dict[str, Any]] = {}
    for op in ops:
        for tensor in (op.input, op.weight, op.bias, op.output):
            if tensor is not None:
                found.setdefault(tensor.name, _tensor(tensor))
    return list(found.values())


def _tensor(tensor: Tensor) -> dict[str, Any]:
    params = tensor.params
    listed = params is not None and params.scale.size <= MOST_SCALES
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": None if tensor.data is None else list(tensor.data.shape),
        "scale": params.scale.tolist() if params is not None and listed else [],
        "zero_point": params.zero_point.tolist() if params is not None and listed else [],
        "axis": None if params is None else params.axis,
        "block": None if params is None else params.group_size,
    }


def _graph(model: ModelProto) -> dict[str, Any]:
    """Nodes and edges of the main graph, as the inspector of .tflite gives them."""
    nodes = [
        {
            "id": number,
            "kind": node.op_type,
            "name": node.name or next((name for name in node.output if name), ""),
            "runs_in": "int8" if node.op_type in INTEGER_KERNELS else "",
        }
        for number, node in enumerate(model.graph.node)
    ]
    maker = {name: number for number, node in enumerate(model.graph.node) for name in node.output if name}
    edges = [(maker[name], number) for number, node in enumerate(model.graph.node) for name in node.input if name in maker]
    return {"nodes": nodes, "edges": edges}
