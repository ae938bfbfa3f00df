"""Looks into an .onnx with plain onnx, and runs it once with ONNX Runtime; runs in the limited process only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto

from models._onnx_tables import tables
from models.entry import signature_of
from models.inspect_process import Request
from models.inspection import Inspection, Port
from models.onnx_file import read
from quantizers.errors import BadData, QuantizationError, QuantScopeError
from quantizers.onnxruntime.declared import declare
from quantizers.onnxruntime.prepare import prepare
from quantizers.onnxruntime.reader import read_each
from quantizers.onnxruntime.scopes import bodies, make_unique, walk
from quantizers.onnxruntime.session import OnnxSession
from quantizers.schema import Backend
from quantizers.signature import Dimension, Signature


def inspect(path: Path, request: Request) -> Inspection:
    """Inputs, outputs, layers and operations of the model; whether samples can be run together, found by running it.

    Raises:
        BadModel: the file is no model, or refers to files that are not there.
        Unsupported: no input or no output is a tensor of numbers.
    """
    model = read(path)
    make_unique(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_port(port) for port in model.graph.input if port.name not in weights)
    ops, problems = read_each(model)
    layers, refusal, batched, size = tuple(op.name for op in ops), None, None, None
    try:
        signature = signature_of(inputs, request.shapes, None, None)
    except BadData:
        pass  # A free axis: nothing can be run before a person says how long it is.
    else:
        try:
            batched, size = _run(model, signature)
        except QuantScopeError:
            raise
        except Exception as error:  # the runtime's own kinds of errors have no common base
            if "alloc" in str(error):
                raise MemoryError from error
            batched = False
            problems.append(f"It refuses random numbers, so it has to be measured on data of your own: {error}"[:500])
        layers, refusal, notes = _prepare(model, signature)
        problems += notes
    return Inspection(
        inputs=inputs,
        outputs=tuple(_port(port) for port in model.graph.output),
        parameters=_parameters(model),
        layers=layers,
        quantized=any(op.weight.dtype.startswith(("int", "uint")) for op in ops),
        backends={} if refusal is None else {Backend.ONNXRUNTIME: refusal},
        batched=batched,
        output_size=size,
        facts=_facts(model) | tables(model, ops),
        notes=tuple(problems),
    )


def _port(port: ValueInfoProto) -> Port:
    kind = port.type.WhichOneof("value") or "nothing"
    if kind != "tensor_type":
        return Port(port.name, kind.removesuffix("_type"), ())
    tensor = port.type.tensor_type
    dtype = TensorProto.DataType.Name(tensor.elem_type).lower()
    shape = tuple(map(_dimension, tensor.shape.dim)) if tensor.HasField("shape") else None
    return Port(port.name, {"float": "float32", "double": "float64"}.get(dtype, dtype), shape)


def _dimension(axis: Any) -> Dimension:
    """Exporters write a free axis as a name, as nothing, or as -1."""
    return int(axis.dim_value) if axis.dim_value > 0 else axis.dim_param or None


def _run(model: ModelProto, signature: Signature) -> tuple[bool, int]:
    """Whether two samples can be run together with the result of each alone, and the length of a sample's output."""
    session = OnnxSession(_declared(model, signature).SerializeToString())
    samples = np.random.default_rng(0).random((2, *signature.sample_shape), np.float32)
    alone = session.run(session.prepare(samples[:1]))
    if not signature.batched:
        return False, alone.shape[1]
    try:
        together = session.run(session.prepare(samples))
    except Exception:  # the runtime's own kinds of errors have no common base
        return False, alone.shape[1]
    same = together.shape[1] == alone.shape[1] and np.allclose(together[:1], alone, 1e-3, 1e-3)
    return bool(same), alone.shape[1]


def _prepare(model: ModelProto, signature: Signature) -> tuple[tuple[str, ...], str | None, list[str]]:
    """Layers of the prepared model, by the names a person can keep them in float by; or why it cannot be prepared."""
    with TemporaryDirectory() as folder:
        try:
            prepared = prepare(_declared(model, signature), Path(folder) / "prepared.onnx")
        except QuantizationError as error:
            return (), f"{error.message} {error.hint}".strip(), []
    return tuple(op.name for op in prepared.ops), None, [f"{step.name}: {step.outcome}" for step in prepared.steps]


def _declared(model: ModelProto, signature: Signature) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    declare(copy, signature)
    return copy


def _parameters(model: ModelProto) -> int:
    """Values of all constants of floating or quantized numbers, wherever they lie."""
    tensors = [tensor for graph in (model.graph, *bodies(model.graph)) for tensor in graph.initializer]
    constants = [node.attribute[0].t for node in walk(model.graph) if node.op_type == "Constant" and node.attribute]
    uncounted = (TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL)
    return sum(int(np.prod(one.dims)) for one in (*tensors, *constants) if one.data_type not in uncounted)


def _facts(model: ModelProto) -> dict[str, Any]:
    kinds = Counter(node.op_type for node in walk(model.graph))
    return {
        "opset": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "operations": dict(kinds.most_common()),
        "ir_version": model.ir_version,
    }
