"""Looks into an .onnx with plain onnx, and runs it once with ONNX Runtime; runs in the limited process only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto

from models.entry import signature_of
from models.inspect_process import Request
from models.inspection import Inspection, Port
from models.onnx_file import read
from quantizers.errors import BadData
from quantizers.onnxruntime.declared import declare
from quantizers.onnxruntime.reader import read as read_layers
from quantizers.onnxruntime.session import OnnxSession
from quantizers.signature import Dimension, Signature


def inspect(path: Path, request: Request) -> Inspection:
    """Inputs, outputs, layers and operations of the model; whether samples can be run together, found by running it.

    Raises:
        BadModel: the file is no model, or refers to files that are not there.
        Unsupported: no input or no output is a tensor of numbers.
    """
    model = read(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_port(port) for port in model.graph.input if port.name not in weights)
    outputs = tuple(_port(port) for port in model.graph.output)
    batched, size = None, None
    try:
        signature = signature_of(inputs, request.shapes, None, None)
    except BadData:
        pass  # A free axis: nothing can be run before a person says how long it is.
    else:
        batched, size = _run(model, signature)
    ops = read_layers(model)
    return Inspection(
        inputs=inputs,
        outputs=outputs,
        parameters=sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer),
        layers=tuple(op.name for op in ops),
        quantized=any(op.weight.dtype.startswith(("int", "uint")) for op in ops),
        batched=batched,
        output_size=size,
        facts=_facts(model),
    )


def _port(port: ValueInfoProto) -> Port:
    kind = port.type.WhichOneof("value") or "nothing"
    if kind != "tensor_type":
        return Port(port.name, kind.removesuffix("_type"), None)
    tensor = port.type.tensor_type
    dtype = TensorProto.DataType.Name(tensor.elem_type).lower()
    shape = tuple(map(_dimension, tensor.shape.dim)) if tensor.HasField("shape") else None
    return Port(port.name, {"float": "float32", "double": "float64"}.get(dtype, dtype), shape)


def _dimension(axis: Any) -> Dimension:
    return int(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or None


def _run(model: ModelProto, signature: Signature) -> tuple[bool, int]:
    """Whether two samples can be run together with the result of each alone, and the length of a sample's output."""
    copy = ModelProto()
    copy.CopyFrom(model)
    declare(copy, signature)
    session = OnnxSession(copy.SerializeToString())
    samples = np.random.default_rng(0).random((2, *signature.sample_shape), np.float32)
    alone = session.run(session.prepare(samples[:1]))
    if not signature.batched:
        return False, alone.shape[1]
    try:
        together = session.run(session.prepare(samples))
    except Exception:  # the runtime's own kinds of errors have no common base of their own
        return False, alone.shape[1]
    return together.shape[1] == alone.shape[1] and np.allclose(together[:1], alone, 1e-3, 1e-3), alone.shape[1]


def _facts(model: ModelProto) -> dict[str, Any]:
    kinds = Counter(node.op_type for node in model.graph.node)
    return {
        "opset": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "operations": dict(kinds.most_common()),
        "ir_version": model.ir_version,
    }
