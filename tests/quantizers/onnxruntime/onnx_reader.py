"""A plain reading of a quantized .onnx file that shares no code with the adapter.

It goes by the names that operator schemas give to inputs.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

MICROSOFT = {  # ContribOperators.md; the schemas of this domain are not among onnx's
    "QGemm": ["A", "a_scale", "a_zero_point", "B", "b_scale", "b_zero_point", "C", "y_scale", "y_zero_point"],
    "MatMulNBits": ["A", "B", "scales", "zero_points", "g_idx", "bias"],
}
DATA = {
    "Conv": "X",
    "Gemm": "A",
    "QLinearConv": "x",
    "QGemm": "A",
    "ConvInteger": "x",
    "MatMulInteger": "A",
    "MatMulNBits": "A",
}
WEIGHT = {
    "Conv": "W",
    "Gemm": "B",
    "QLinearConv": "w",
    "QGemm": "B",
    "ConvInteger": "w",
    "MatMulInteger": "B",
    "MatMulNBits": "B",
}
BIAS = {"Conv": "B", "Gemm": "C", "QLinearConv": "B", "QGemm": "C", "MatMulNBits": "bias"}


@dataclass
class Found:
    """A tensor as the file has it; no scale where it is float."""

    dtype: str
    scale: NDArray[np.float32] | None = None
    zero_point: NDArray[Any] | None = None
    axis: int | None = None
    block: int | None = None
    codes: NDArray[Any] | None = None


@dataclass
class Plain:
    """The file, indexed by names."""

    model: onnx.ModelProto
    made_by: dict[str, onnx.NodeProto] = field(default_factory=dict)
    stored: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.made_by = {name: node for node in self.model.graph.node for name in node.output}
        self.stored = {tensor.name: tensor for tensor in self.model.graph.initializer}

    def node(self, layer: str) -> onnx.NodeProto:
        called = {layer, f"{layer}_quant", f"{layer}_MatMul_quant"}
        (node,) = (node for node in self.model.graph.node if node.name in called)
        return node

    def named(self, node: onnx.NodeProto) -> dict[str, str]:
        keys = MICROSOFT.get(node.op_type) or [entry.name for entry in onnx.defs.get_schema(node.op_type).inputs]
        return {key: name for key, name in zip(keys, node.input, strict=False) if name}

    def values(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.stored[name])

    def dtype(self, name: str) -> str:
        return self.values(name).dtype.name

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.model.graph.node if name in node.input]

    def behind_dequantize(self, node: onnx.NodeProto) -> Found:
        """What a DequantizeLinear node reads."""
        inputs = self.named(node)
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        scale = self.values(inputs["x_scale"])
        zero = self.values(inputs["x_zero_point"]) if "x_zero_point" in inputs else np.zeros(1)
        source = inputs["x"]
        dtype = self.dtype(source) if source in self.stored else zero.dtype.name
        codes = self.values(source) if source in self.stored else None
        block = attributes.get("block_size") or None
        return Found(dtype, scale, zero, attributes["axis"] if scale.size > 1 and not block else None, block, codes)

    def constant(self, name: str) -> Found:
        while name in self.made_by and self.made_by[name].op_type in ("Reshape", "Cast"):
            name = self.made_by[name].input[0]
        if name in self.made_by:
            return self.behind_dequantize(self.made_by[name])
        return Found(self.dtype(name), codes=self.values(name))


def weight(plain: Plain, node: onnx.NodeProto) -> Found:
    names, kind = plain.named(node), node.op_type
    if kind in ("Conv", "Gemm"):
        return plain.constant(names[WEIGHT[kind]])
    if kind == "MatMulNBits":
        return _blocks(plain, node)
    weight = names[WEIGHT[kind]]
    if kind == "ConvInteger":
        scale, zero, axis = plain.values(f"{weight.removesuffix('_quantized')}_scale"), plain.values(names["w_zero_point"]), 0
    elif kind == "MatMulInteger":
        scale, zero, axis = plain.values(f"{weight.removesuffix('_quantized')}_scale"), plain.values(names["b_zero_point"]), 1
    else:
        letter = WEIGHT[kind].lower()
        scale, zero, axis = plain.values(names[f"{letter}_scale"]), plain.values(names[f"{letter}_zero_point"]), 0
    return Found(plain.dtype(weight), scale, zero, axis if scale.size > 1 else None, None, plain.values(weight))


def _blocks(plain: Plain, node: onnx.NodeProto) -> Found:
    """Codes of a MatMulNBits, taken out of the bytes one by one."""
    names = plain.named(node)
    attribute = {entry.name: entry.i for entry in node.attribute}
    bits, block = attribute["bits"], attribute["block_size"]

    def unpack(row: bytes, count: int) -> list[int]:
        number = int.from_bytes(row, "little")
        return [(number >> (bits * i)) & (2**bits - 1) for i in range(count)]

    packed, scale = plain.values(names["B"]), plain.values(names["scales"])
    codes = np.array([unpack(row.tobytes(), attribute["K"]) for row in packed])
    zero: NDArray[Any] = np.full(scale.size, 2 ** (bits - 1))
    if "zero_points" in names:
        rows = plain.values(names["zero_points"]).reshape(len(packed), -1)
        zero = np.array([unpack(row.tobytes(), scale.size // len(packed)) for row in rows]).ravel()
    return Found(f"uint{bits}", scale, zero, None, block, codes)


def data(plain: Plain, node: onnx.NodeProto) -> Found:
    names, kind = plain.named(node), node.op_type
    source = names[DATA[kind]]
    if kind in ("QLinearConv", "QGemm"):
        letter = DATA[kind].lower()
        zero = plain.values(names[f"{letter}_zero_point"])
        return Found(zero.dtype.name, plain.values(names[f"{letter}_scale"]), zero)
    if {"accuracy_level": 4}.items() <= {entry.name: entry.i for entry in node.attribute}.items():
        return Found("int8 (dynamic)")
    maker = plain.made_by.get(source)
    if maker is not None and maker.op_type == "DynamicQuantizeLinear":
        return Found("uint8 (dynamic)")
    return plain.behind_dequantize(maker) if maker is not None and maker.op_type == "DequantizeLinear" else Found("float32")


def output(plain: Plain, node: onnx.NodeProto) -> Found:
    names = plain.named(node)
    if "y_scale" in names:
        zero = plain.values(names["y_zero_point"])
        return Found(zero.dtype.name, plain.values(names["y_scale"]), zero)
    if node.op_type in ("ConvInteger", "MatMulInteger"):
        return Found("float32")
    after = plain.readers(node.output[0])
    if [reader.op_type for reader in after] == ["Relu"]:
        after = plain.readers(after[0].output[0])
    for reader in after:
        if reader.op_type == "QuantizeLinear":
            inputs = plain.named(reader)
            zero = plain.values(inputs["y_zero_point"])
            return Found(zero.dtype.name, plain.values(inputs["y_scale"]), zero)
    return Found("float32")
