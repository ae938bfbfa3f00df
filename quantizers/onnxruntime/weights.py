"""Writes quantized weights into a model ourselves, where the runtime's tools have no way to: each layer by its own choice.

Integers of 2, 4 and 8 bits go in as constants behind a DequantizeLinear, which every operation can read; a dense layer that
is quantized in groups becomes a MatMulNBits; float16 is a constant behind a Cast. All of it is packed as small as its bits say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from quantizers.numerics import binary, min_max_params, quantize, ternary
from quantizers.onnxruntime.blocks import DOMAIN, INT8_LEVEL, KIND, LEVEL, pack
from quantizers.onnxruntime.graph import Graph, attribute, prune
from quantizers.onnxruntime.reader import QUANTIZED, Tensor, WeightedOp
from quantizers.onnxruntime.scopes import walk
from quantizers.pytorch.weights import Choice, integers
from quantizers.schema import Integers, QuantParams, Scheme

if TYPE_CHECKING:
    from quantizers.onnxruntime.improve import OutputRounding

_TWO_BIT_OPSET, _TWO_BIT_IR = 25, 13
"""The first versions of ONNX that know 2-bit integers."""


class Rewriter:
    """Replaces the weights of a model's layers, one call a layer; `finish` deletes what nothing reads any more.

    Args:
        model: changed in place. Its layers are still called as in the prepared float model.
        float_ops: the layers of the prepared float model, whose weights are taken.
    """

    def __init__(self, model: ModelProto, float_ops: dict[str, WeightedOp]) -> None:
        self._model = model
        self._float = float_ops
        self._nodes = {node.name: node for node in walk(model.graph)}
        self._two_bits = False
        self._made: dict[tuple[str, str], str] = {}

    def integers(
        self,
        layer: str,
        bits: int,
        *,
        group_size: int | None = None,
        scheme: Scheme = Scheme.SYMMETRIC,
        fit: str = "minmax",
        rounding: OutputRounding | None = None,
    ) -> None:
        """Rounds to the nearest code, per output channel or per group of consecutive weights of one channel.

        Args:
            fit: how the range of a channel or group is found: one of `quantizers.pytorch.weights.Choice.fit`.
            rounding: what finds better codes; layers have to come in the model's order then.
        """
        choice = Choice(group_size, affine=scheme is Scheme.AFFINE, fit=fit)
        weight = _weight(self._float[layer])
        codes, params = integers(weight, bits, choice)
        if rounding is not None:
            codes = rounding.codes(layer, weight, (codes, params), self._so_far())
        rows = codes.reshape(len(codes), -1)
        if params.group_size is None or not self._is_plain_product(layer):
            self._dequantized(layer, rows, params)
        else:
            self._block_product(layer, rows, params, params.group_size)

    def integer_product(self, layer: str, bits: int, block: int, scheme: Scheme, fit: str) -> None:
        """A dense layer gets weights in blocks, and activations that are rounded as it runs; other layers stay as they are."""
        if self._is_plain_product(layer):
            choice = Choice(block, affine=scheme is Scheme.AFFINE, fit=fit)
            codes, params = integers(_weight(self._float[layer]), bits, choice)
            self._block_product(layer, codes, params, block, **{LEVEL: INT8_LEVEL})

    def binary(self, layer: str) -> None:
        """See `numerics.binary`."""
        self._two_bit(layer, *binary(_weight(self._float[layer])))

    def ternary(self, layer: str) -> None:
        """See `numerics.ternary`."""
        self._two_bit(layer, *ternary(_weight(self._float[layer])))

    def half(self, layer: str) -> None:
        """Float16, cast to float32 when the model is loaded."""
        name = f"{layer}.weight_float16"
        if self._shared(layer, name):
            return
        self._constant(name, _values(self._float[layer].weight).astype(np.float16))
        self._feed(layer, [helper.make_node("Cast", [name], [f"{name}_cast"], name=f"{name}_Cast", to=TensorProto.FLOAT)])

    def scale_channels(self, layer: str) -> None:
        """Gives a ConvInteger one scale an output channel; the runtime's tool has one a tensor, whatever it is asked for.

        Scales are multiplied in behind the integer sums, so that one a channel costs nothing. Zero points have to be one a
        tensor, which is enough for codes around the middle of their type.
        """
        node = self._nodes.get(layer + QUANTIZED)
        if node is None or node.op_type != "ConvInteger":
            return
        codes, params = integers(_weight(self._float[layer]), 8, Choice())
        stored = {tensor.name: tensor for tensor in self._model.graph.initializer}
        name, zero = node.input[1], node.input[3]
        kind = helper.tensor_dtype_to_np_dtype(stored[name].data_type)
        middle = 0 if np.iinfo(kind).min else 128
        written = {
            name: (codes + middle).astype(kind),
            f"{name.removesuffix('_quantized')}_scale": params.scale.astype(np.float32).reshape(-1, *[1] * (codes.ndim - 2)),
            zero: np.array(middle, kind),
        }
        for key, values in written.items():
            stored[key].CopyFrom(numpy_helper.from_array(values, key))

    def keep(self, layer: str) -> None:
        """Makes the runtime leave a float layer between quantized ones in float, as its file says.

        When a model is loaded, float weights and biases of a layer between DequantizeLinear and QuantizeLinear are quantized
        to int8, one scale a tensor (WeightBiasQuantization). It does so only if the bias is a plain constant, so the bias
        goes behind a DequantizeLinear: in int32 it is as exact as in float32.
        """
        op, node = self._float[layer], self._nodes[layer]
        if op.kind == "MatMul" or Graph(self._model).producer(node.input[0], "DequantizeLinear") is None:
            return
        bias = np.zeros(len(_weight(op)), np.float32) if op.bias is None else _values(op.bias)
        params = min_max_params(bias, 32)
        name = f"{layer}.bias_int32"
        self._constant(name, quantize(bias, params).astype(np.int32))
        self._constant(f"{name}_scale", params.scale.astype(np.float32).reshape(()))
        step = helper.make_node("DequantizeLinear", [name, f"{name}_scale"], [f"{name}_real"], name=f"{name}_DequantizeLinear")
        node.input[:] = [*node.input[:2], *step.output]
        self._model.graph.node.insert(0, step)

    def finish(self) -> ModelProto:
        """The model, raised to the first opset with 2-bit integers if it holds any."""
        return self._finished(self._model)

    def _so_far(self) -> ModelProto:
        copy = ModelProto()
        copy.CopyFrom(self._model)
        return self._finished(copy)

    def _finished(self, model: ModelProto) -> ModelProto:
        prune(model)
        if not self._two_bits:
            return model
        raised: ModelProto = version_converter.convert_version(model, _TWO_BIT_OPSET)
        raised.ir_version = _TWO_BIT_IR
        return raised

    def _two_bit(self, layer: str, codes: Integers, params: QuantParams) -> None:
        """ONNX has no 1-bit type: signs take two bits as well."""
        self._dequantized(layer, codes.reshape(len(codes), -1), replace(params, dtype="int2"))

    def _dequantized(self, layer: str, rows: Integers, params: QuantParams) -> None:
        """Codes [out, weights of one output] behind a DequantizeLinear.

        Groups need that layout, and 2-bit codes as well: the runtime replaces a DequantizeLinear with the operation right
        behind it by an 8-bit kernel without asking for the width, and then refuses the model. A Reshape keeps them apart.
        """
        shape, rows_first = _weight(self._float[layer]).shape, self._float[layer].rows_first
        apart = params.group_size is not None or params.dtype == "int2"
        self._two_bits = self._two_bits or params.dtype == "int2"
        name = f"{layer}.weight_{params.dtype}"
        if self._shared(layer, name):
            return
        kind = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(params.dtype.upper()))
        groups = (len(rows), -1) if params.group_size else (-1,)
        stored = rows if apart else rows.T if rows_first else rows.reshape(shape)
        self._constant(name, stored.astype(kind))
        inputs = [name, f"{name}_scale"]
        self._constant(inputs[-1], params.scale.astype(np.float32).reshape(groups))
        if params.zero_point.any():
            inputs.append(f"{name}_zero_point")
            self._constant(inputs[-1], params.zero_point.astype(kind).reshape(groups))
        along = {"axis": 1 if rows_first and not apart else 0}
        place: dict[str, Any] = {"axis": 1, "block_size": params.group_size} if params.group_size else along
        steps = [helper.make_node("DequantizeLinear", inputs, [f"{name}_real"], name=f"{name}_DequantizeLinear", **place)]
        if apart:
            self._constant(f"{name}_shape", np.array(shape, np.int64))
            sources = [f"{name}_real", f"{name}_shape"]
            steps.append(helper.make_node("Reshape", sources, [f"{name}_kernel"], name=f"{name}_Reshape"))
            if rows_first:
                steps.append(helper.make_node("Transpose", [f"{name}_kernel"], [f"{name}_rows"], name=f"{name}_Transpose"))
        self._feed(layer, steps)

    def _shared(self, layer: str, name: str) -> bool:
        """Whether another layer has the same weights, and got them quantized alike: then this one reads those too."""
        op = self._float[layer]
        key = f"{op.weight.name} {op.kind} {op.rows_first}", name.removeprefix(layer)
        if key in self._made:
            self._nodes[layer].input[1] = self._nodes[self._made[key]].input[1]
            return True
        self._made[key] = layer
        return False

    def _feed(self, layer: str, steps: list[NodeProto]) -> None:
        """Adds nodes that read constants only; the last of them gives the layer its weight."""
        self._nodes[layer].input[1] = steps[-1].output[0]
        for step in reversed(steps):
            self._model.graph.node.insert(0, step)

    def _is_plain_product(self, layer: str) -> bool:
        """Whether the layer is x·W, or x·W + b: what MatMulNBits computes."""
        node = self._nodes[layer]
        plain = not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        bias = self._float[layer].bias
        return node.op_type in ("Gemm", "MatMul") and plain and (bias is None or _values(bias).ndim == 1)

    def _block_product(self, layer: str, codes: Integers, params: QuantParams, block: int, **attributes: Any) -> None:
        """A Gemm or MatMul becomes a MatMulNBits: unsigned codes, packed in blocks along the inputs."""
        node, bits = self._nodes[layer], int(params.dtype.removeprefix("int"))
        middle = 1 << (bits - 1)
        outputs, size = codes.shape
        blocks = -(-size // block)
        padded = np.pad(codes + middle, ((0, 0), (0, blocks * block - size)))
        name = f"{layer}.weight_nbits{bits}"
        self._constant(name, pack(padded, bits).reshape(outputs, blocks, -1))
        self._constant(f"{name}_scales", params.scale.astype(np.float32).reshape(outputs, blocks))
        zero = ""
        if params.zero_point.any():
            zero = f"{name}_zero_points"
            rows = (params.zero_point + middle).reshape(outputs, blocks)
            self._constant(zero, pack(np.pad(rows, ((0, 0), (0, -blocks % (8 // bits)))), bits))
        shape: dict[str, Any] = {"K": size, "N": outputs, "bits": bits, "block_size": block}
        inputs = [node.input[0], name, f"{name}_scales", zero, "", *node.input[2:]]
        product = helper.make_node(KIND, inputs, list(node.output), name=layer, domain=DOMAIN, **shape, **attributes)
        node.CopyFrom(product)

    def _constant(self, name: str, values: NDArray[Any]) -> None:
        self._model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _values(tensor: Tensor) -> NDArray[np.float32]:
    assert tensor.data is not None
    return tensor.data


def _weight(op: WeightedOp) -> NDArray[np.float32]:
    """The float weights with output channels first."""
    values = _values(op.weight)
    return np.ascontiguousarray(values.T) if op.rows_first else values
