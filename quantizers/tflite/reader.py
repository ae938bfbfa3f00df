"""Reads a .tflite as the flatbuffer it is: its weighted operations in execution order, with every tensor's type and parameters.

The file is the authority, not the interpreter, which has no public list of operations and calls int4 int8. Ranges follow the
TFLite 8-bit quantization specification: weights leave out the lowest code ([−127, 127], and [−7, 7] at 4 bits), activations and
biases use their whole type.

Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from quantizers.numerics import dequantize, integer_range
from quantizers.schema import QuantParams, Role

TENSOR_TYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the file.

    Attributes:
        index: its number in the main subgraph, the same in the interpreter.
        dtype: as stored, such as "int8" or "float16".
        scale: None where the tensor has no quantization parameters.
        axis: the dimension the scales run along; None with a single scale, or with blocks.
        block: how many consecutive values along the last dimension share a scale; None where none do.
        data: the stored values of a constant, int4 unpacked to int8; None for what is computed.
    """

    index: int
    name: str
    dtype: str
    scale: NDArray[np.float32] | None
    zero_point: NDArray[np.int64] | None
    axis: int | None
    data: NDArray[Any] | None
    block: int | None = None

    def values(self) -> NDArray[Any]:
        """The real numbers that a constant weight stands for."""
        assert self.data is not None, "only constants have values"
        params = self.params(Role.WEIGHT)
        return self.data if params is None else dequantize(self.data, params)

    def params(self, role: Role) -> QuantParams | None:
        """The parameters, with the range the specification gives to a tensor of this role; None for a float tensor."""
        if self.scale is None or self.zero_point is None:
            return None
        bits, signed = int(self.dtype.removeprefix("u").removeprefix("int")), not self.dtype.startswith("u")
        qmin, qmax = integer_range(bits, signed=signed, narrow=role is Role.WEIGHT)
        return QuantParams(self.scale.astype(np.float64), self.zero_point, qmin, qmax, self.dtype, self.axis, self.block)


@dataclass(frozen=True, eq=False)
class WeightedOp:
    """A convolution or a dense operation. Constants are given as stored, without the DEQUANTIZE that may follow them.

    `widened` says that such a DEQUANTIZE follows the weight: the operation itself computes in float32.
    """

    kind: str
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    output: Tensor
    widened: bool

    @property
    def channel_axis(self) -> int:
        """The dimension of the weight that counts output channels."""
        return _CHANNEL_AXIS[self.kind]


def read(file: bytes) -> Sequence[WeightedOp]:
    """The weighted operations of a .tflite, in the order they run."""
    model = parse(file)
    graph = model.subgraphs[0]
    kinds = [kind_of(model, op) for op in graph.operators]
    stored_as = {
        int(op.outputs[0]): int(op.inputs[0]) for op, kind in zip(graph.operators, kinds, strict=True) if kind == "DEQUANTIZE"
    }

    def constant(index: int) -> Tensor:
        return tensor_of(model, graph, stored_as.get(index, index))

    found = []
    for op, kind in zip(graph.operators, kinds, strict=True):
        if kind not in _CHANNEL_AXIS:
            continue
        source, weight, *rest = (int(index) for index in op.inputs)
        if constant(weight).data is None:
            continue  # A product of two computed tensors is a FULLY_CONNECTED without a weight.
        bias = constant(rest[0]) if rest and rest[0] >= 0 else None
        output = tensor_of(model, graph, int(op.outputs[0]))
        found.append(WeightedOp(kind, tensor_of(model, graph, source), constant(weight), bias, output, weight in stored_as))
    return found


def signature(file: bytes) -> tuple[str, str]:
    """The names of the first signature and of its first input."""
    first = schema.ModelT.InitFromPackedBuf(file, 0).signatureDefs[0]
    return first.signatureKey.decode(), first.inputs[0].name.decode()


def kind_of(model: Any, op: Any) -> str:
    """The name of an operation. Files of before 2020 have its number in the older of two fields."""
    code = model.operatorCodes[op.opcodeIndex]
    kind = OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return (code.customCode or b"CUSTOM").decode(errors="replace") if kind == "CUSTOM" else kind


def parse(file: bytes) -> Any:
    """The file as objects. Large constants may lie behind the flatbuffer, by their place in the file: they are fetched."""
    model = schema.ModelT.InitFromPackedBuf(file, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 both say that there is none.
            buffer.data = np.frombuffer(file, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def tensor_of(model: Any, graph: Any, index: int) -> Tensor:
    """One tensor of a parsed file; ValueError or IndexError where it contradicts itself."""
    raw = graph.tensors[index]
    dtype = TENSOR_TYPES[raw.type]
    shape = () if raw.shape is None else tuple(int(size) for size in raw.shape)
    content = model.buffers[raw.buffer].data
    scale, zero_point, axis, block = _grid(model, graph, raw.quantization)
    return Tensor(
        index=index,
        name=(raw.name or b"").decode(errors="replace"),
        dtype=dtype,
        scale=scale,
        zero_point=zero_point,
        axis=axis,
        data=None if content is None else _values(bytes(content), dtype, shape),
        block=block,
    )


def _grid(
    model: Any, graph: Any, quantization: Any
) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None, int | None, int | None]:
    """Scales, zero points, axis and block size. The scales of blocks are a float16 tensor of their own."""
    if quantization is None:
        return None, None, None, None
    if quantization.detailsType == schema.QuantizationDetails.BlockwiseQuantization:
        blocks = quantization.details
        scales = tensor_of(model, graph, blocks.scales).data
        assert scales is not None, "the scales of blocks are constants"
        return scales.astype(np.float32).ravel(), np.zeros(scales.size, np.int64), None, int(blocks.blockSize)
    if quantization.scale is None or len(quantization.scale) == 0:
        return None, None, None, None
    scale = np.array(quantization.scale, np.float32)
    zero_point = np.zeros(scale.size) if quantization.zeroPoint is None else quantization.zeroPoint
    return scale, np.array(zero_point, np.int64), int(quantization.quantizedDimension) if scale.size > 1 else None, None


def _values(content: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A buffer as an array; of two int4 in a byte the low half is the first."""
    if dtype != "int4":
        return np.frombuffer(content, dtype).reshape(shape)
    packed = np.frombuffer(content, np.int8)
    halves = np.stack([packed << 4, packed], axis=-1) >> 4  # Shifting right spreads the sign.
    return halves.ravel()[: np.prod(shape)].reshape(shape)
