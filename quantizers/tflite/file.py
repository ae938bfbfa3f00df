"""What any .tflite holds, whoever made it: every tensor as stored, every operation and the type it computes in, as plain data.

The flatbuffer is the authority; nothing is run and TensorFlow is not needed. Which operations the XNNPACK delegate takes is
another question, which only the runtime can answer: `delegated` asks it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadModel, ConversionFailed
from quantizers.tflite.reader import TENSOR_TYPES, Tensor, kind_of, read, tensor_of
from quantizers.tflite.reader import parse as parse_flatbuffer

MAGIC = b"TFL3"
_AT = slice(4, 8)
_NARROW = ("int8", "uint8", "int4", "int2", "int16")
_DAMAGED = "The file may be damaged or not be a .tflite."


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor as the file declares it.

    Attributes:
        shape: as declared; -1 where an axis is free.
        scale, zero_point: empty where the tensor has no grid.
        axis: the dimension the scales run along; None with a single scale.
        block: consecutive values that share a scale; None where none do.
        bytes: size of the stored values; 0 for what is computed.
        sparse: whether the values are stored sparsely.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None
    block: int | None
    bytes: int
    sparse: bool

    @property
    def constant(self) -> bool:
        return self.bytes > 0


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation in execution order; `inputs` and `outputs` are numbers of tensors.

    `runs_in` is "int8", "int16", …; "hybrid int8" where float activations meet integer weights; or "float32".
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    runs_in: str


@dataclass(frozen=True, eq=False)
class Contents:
    """The main graph of a .tflite; `problems` says what of it could not be read."""

    content: bytes
    description: str
    tensors: tuple[StoredTensor, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    problems: tuple[str, ...]

    @property
    def why_not(self) -> str | None:
        """Why it cannot be quantized; None if it can."""
        stored = Counter(tensor.dtype for tensor in self.tensors if tensor.constant and tensor.scale)
        narrow = {dtype: count for dtype, count in stored.items() if dtype in _NARROW}
        if narrow:
            what = ", ".join(f"{count} tensors in {dtype}" for dtype, count in narrow.items())
            return f"The file is quantized already: it stores {what}."
        if any(tensor.dtype == "float16" and tensor.constant for tensor in self.tensors):
            return "The file is reduced already: it stores weights in float16."
        if self.subgraphs > 1:
            return f"The file has {self.subgraphs} graphs (control flow, or several entry points); only one can be quantized."
        return self._unquantizable()

    def _unquantizable(self) -> str | None:
        if odd := sorted({tensor.dtype for tensor in self.tensors if tensor.dtype in ("resource", "variant", "string")}):
            return f"The file holds tensors of the type {', '.join(odd)}, which keep state or text and have no integer form."
        if any(tensor.sparse for tensor in self.tensors):
            return "The file stores sparse weights, which litert-quantizer does not read."
        if len(self.inputs) != 1:
            return f"The model takes {len(self.inputs)} inputs; calibration here knows models of one."
        return None if self.kernels() else "The model has no convolution and no dense layer with weights of its own."

    def kernels(self) -> Mapping[str, NDArray[np.float32]]:
        """The weights of its layers as real numbers, named as the tensors that they compute."""
        return {op.output.name: op.weight.values().astype(np.float32) for op in read(self.content)}

    def graph(self) -> tuple[Sequence[Mapping[str, Any]], Sequence[tuple[int, int]]]:
        """Nodes (operations with kind, name and type) and edges (from, to) between them, for drawing."""
        maker = {tensor: op.index for op in self.operations for tensor in op.outputs}
        nodes = [
            {
                "id": op.index,
                "kind": op.kind,
                "name": self.tensors[op.outputs[0]].name if op.outputs else "",
                "runs_in": op.runs_in,
            }
            for op in self.operations
        ]
        edges = [(maker[tensor], op.index) for op in self.operations for tensor in op.inputs if tensor in maker]
        return nodes, edges


def read_file(content: bytes) -> Contents:
    """Reads a .tflite without running it.

    Raises:
        BadModel: it is no .tflite, or contradicts itself.
    """
    if content[_AT] != MAGIC:
        raise BadModel("The file does not begin like a .tflite (TFL3 at byte 4).", _DAMAGED)
    try:
        model = parse_flatbuffer(content)
        if not model.subgraphs:
            raise BadModel("The file holds no graph.", _DAMAGED)
        graph = model.subgraphs[0]
        problems: list[str] = []
        tensors = tuple(_tensor(model, graph, index, problems) for index in range(len(graph.tensors)))
        operations = tuple(_operation(model, op, index, tensors) for index, op in enumerate(graph.operators or ()))
        return Contents(
            content,
            (model.description or b"").decode(errors="replace"),
            tensors,
            operations,
            _indices(graph.inputs, len(tensors)),
            _indices(graph.outputs, len(tensors)),
            len(model.subgraphs),
            tuple(problems),
        )
    except BadModel:
        raise
    except Exception as error:  # a damaged flatbuffer makes its reader raise whatever it likes
        raise BadModel(f"The .tflite cannot be read: {type(error).__name__}: {error}", _DAMAGED) from error


def _indices(values: Any, limit: int) -> tuple[int, ...]:
    """Numbers of tensors, of which -1 (an input left out) is dropped."""
    found = tuple(int(value) for value in (() if values is None else values) if value >= 0)
    if any(value >= limit for value in found):
        raise BadModel("The file refers to a tensor that it does not have.", _DAMAGED)
    return found


def _tensor(model: Any, graph: Any, index: int, problems: list[str]) -> StoredTensor:
    raw = graph.tensors[index]
    content = model.buffers[raw.buffer].data
    declared = raw.shapeSignature if raw.shapeSignature is not None and len(raw.shapeSignature) else raw.shape
    shape = () if declared is None else tuple(int(size) for size in declared)
    found = tensor_of(model, graph, index) if raw.sparsity is None else None
    if found is not None:
        _check_grid(found, shape)
    else:
        problems.append(f"{(raw.name or b'').decode(errors='replace')} is stored sparsely; its values are not shown.")
    scale = () if found is None or found.scale is None else tuple(float(value) for value in found.scale)
    zero_point = () if found is None or found.zero_point is None else tuple(int(value) for value in found.zero_point)
    return StoredTensor(
        index=index,
        name=(raw.name or b"").decode(errors="replace"),
        dtype=TENSOR_TYPES[raw.type],
        shape=shape,
        scale=scale,
        zero_point=zero_point,
        axis=found.axis if found else None,
        block=found.block if found else None,
        bytes=0 if content is None else len(content),
        sparse=raw.sparsity is not None,
    )


def _check_grid(tensor: Tensor, shape: tuple[int, ...]) -> None:
    """
    Raises:
        BadModel: the scales cannot belong to a tensor of this shape.
    """
    if tensor.axis is None or tensor.scale is None:
        return
    if not 0 <= tensor.axis < len(shape):
        what = f"{tensor.name} has {len(shape)} dimensions, and its scales run along number {tensor.axis}."
        raise BadModel(what, "The quantized_dimension in the file is wrong: convert the model again.")
    if tensor.scale.size != shape[tensor.axis]:
        raise BadModel(f"{tensor.name} has {tensor.scale.size} scales for {shape[tensor.axis]} channels.", _DAMAGED)


def _operation(model: Any, raw: Any, index: int, tensors: Sequence[StoredTensor]) -> Operation:
    inputs, outputs = _indices(raw.inputs, len(tensors)), _indices(raw.outputs, len(tensors))
    return Operation(
        index, kind_of(model, raw), inputs, outputs, _runs_in([tensors[i] for i in inputs], [tensors[i] for i in outputs])
    )


def _runs_in(inputs: Sequence[StoredTensor], outputs: Sequence[StoredTensor]) -> str:
    """The type an operation computes in, as the types of what it reads and writes tell."""
    computed = [tensor.dtype for tensor in (*inputs, *outputs) if not tensor.constant]
    constants = [tensor.dtype for tensor in inputs if tensor.constant and tensor.scale and math.prod(tensor.shape) > 1]
    if "float32" in computed:
        narrow = [dtype for dtype in constants if dtype in _NARROW]
        return f"hybrid {narrow[0]}" if narrow else "float32"
    return computed[0] if computed else "float32"


def integer_only(content: bytes) -> None:
    """Makes sure that no operation but the conversion of input and output computes in float.

    Raises:
        ConversionFailed: some do; converters leave what has no integer kernel in float without an error.
    """
    operations = read_file(content).operations
    left = Counter(op.kind for op in operations if op.runs_in != "int8" and op.kind not in ("QUANTIZE", "DEQUANTIZE"))
    if left:
        what = ", ".join(f"{count} {kind}" for kind, count in left.items())
        raise ConversionFailed(f"Operations without an integer kernel stay in float: {what}.", "Allow it: float_fallback=true.")


def modernised(content: bytes) -> bytes:
    """The file as litert-quantizer needs it; unchanged where it is so already.

    Files of before 2020 have the numbers of operations in another field, which the library does not read, and no signature,
    without which it cannot calibrate.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = parse_flatbuffer(content)
    if model.signatureDefs and not any(code.deprecatedBuiltinCode > code.builtinCode for code in model.operatorCodes):
        return content
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    if not model.signatureDefs:
        graph, signature = model.subgraphs[0], schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        signature.inputs, signature.outputs = _named(schema, graph, graph.inputs), _named(schema, graph, graph.outputs)
        model.signatureDefs = [signature]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _named(schema: Any, graph: Any, tensors: Any) -> list[Any]:
    found = []
    for index in tensors:
        port = schema.TensorMapT()
        port.name, port.tensorIndex = graph.tensors[index].name, int(index)
        found.append(port)
    return found


def delegated(content: bytes) -> frozenset[int]:
    """The operations that XNNPACK took over, as the runtime's own plan after delegation tells; runs nothing.

    Every DELEGATE node names the tensors it reads and writes; what lies between them is what it replaced.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()
    maker = {int(tensor): node for node in nodes if node["op_name"] != "DELEGATE" for tensor in node["outputs"]}
    taken: set[int] = set()
    for node in nodes:
        if node["op_name"] == "DELEGATE":
            ends, todo = {int(tensor) for tensor in node["inputs"]}, [int(tensor) for tensor in node["outputs"]]
            while todo:
                made = maker.get(todo.pop())
                if made is not None and made["index"] not in taken:
                    taken.add(int(made["index"]))
                    todo += [int(tensor) for tensor in made["inputs"] if int(tensor) not in ends]
    return frozenset(taken)
