"""Scales, zero points, codes and names against readers that share no code with the adapter.

The adapter reads the flatbuffer; here the runtime's own C++ reader tells what the tensors are, and batch norms are folded from
the Keras layers by the textbook formula.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from quantizers.numerics import dequantize, tensor_error
from quantizers.schema import QuantizedTensor, Role
from quantizers.tflite.model import TFLiteModel

pytestmark = pytest.mark.adapter

MODELS = ["mnist-mlp", "fashion-cnn", "fashion-resnet"]
MORE = [pytest.param("mnist-cnn", marks=pytest.mark.matrix)]
"""Has no kind of layer that the others lack."""
CONVERTER = ["float32", "dynamic_wi8", "static_wi8_ai8", "static_wi8_ai16", "float16"]
RECIPES = ["dynamic_wi4", "static_wi4_ai8", "weight_only_wi8", "weight_only_wi4"]
CODES = CONVERTER + RECIPES
VARIANTS = [
    *((model, code, {}) for model in MODELS for code in CODES),
    *(pytest.param("mnist-cnn", code, {}, marks=pytest.mark.matrix) for code in CODES),
    ("fashion-cnn", "static_wi8_ai8", {"per_channel": False}),
    ("fashion-cnn", "static_wi8_ai8", {"io": "uint8"}),
    ("fashion-cnn", "static_wi8_ai8", {"io": "float32"}),
]
every_model = pytest.mark.parametrize("model_id", [*MODELS, *MORE])
every_variant = pytest.mark.parametrize(("model_id", "code", "options"), VARIANTS)


@dataclass(frozen=True, eq=False)
class Found:
    """What the runtime says of the tensors of one weighted operation."""

    input: dict[str, Any]
    weight: dict[str, Any]
    bias: dict[str, Any] | None
    output: dict[str, Any]
    values: dict[int, NDArray[Any]]


def runtime_layers(model: TFLiteModel) -> list[Found]:
    interpreter = Interpreter(str(model.path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()
    widened = {op["outputs"][0]: op["inputs"][0] for op in operations if op["op_name"] == "DEQUANTIZE"}
    layers = []
    for op in operations:
        if op["op_name"] not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        source, *constants = (int(index) for index in op["inputs"])
        weight, bias = [widened.get(index, index) for index in [*constants, -1][:2]]
        values = {index: interpreter.get_tensor(index) for index in (weight, bias) if index >= 0}
        layers.append(Found(details[source], details[weight], details.get(bias), details[op["outputs"][0]], values))
    return layers


def assert_same(tensor: QuantizedTensor, found: dict[str, Any]) -> None:
    unpacked = "int8" if tensor.dtype == "int4" else tensor.dtype  # How the runtime gives it.
    assert unpacked == np.dtype(found["dtype"]).name
    truth = found["quantization_parameters"]
    if tensor.params is None:
        assert truth["scales"].size == 0
        return
    np.testing.assert_array_equal(tensor.params.scale, truth["scales"].astype(np.float64))
    np.testing.assert_array_equal(tensor.params.zero_point, truth["zero_points"])
    assert tensor.params.axis == (truth["quantized_dimension"] if truth["scales"].size > 1 else None)
    assert tensor.params.dtype == tensor.dtype


@every_variant
def test_every_tensor_is_what_the_runtime_finds(converted, model_id, code, options):
    model = converted(model_id, code, **options)
    layers, found = model.layers(), runtime_layers(model)
    assert len(layers) == len(found)
    for layer, truth in zip(layers, found, strict=True):
        assert_same(layer.weight, truth.weight)
        np.testing.assert_array_equal(layer.weight.codes, truth.values[truth.weight["index"]])
        assert_same(layer.inputs[0], truth.input)
        assert_same(layer.output, truth.output)
        assert (layer.bias is None) == (truth.bias is None)
        if layer.bias is not None:
            assert_same(layer.bias, truth.bias)
            np.testing.assert_array_equal(layer.bias.codes, truth.values[truth.bias["index"]])


@every_variant
def test_layers_carry_the_models_names_in_order(converted, subject, model_id, code, options):
    layers = converted(model_id, code, **options).layers()
    assert tuple(layer.name for layer in layers) == subject(model_id).model.layer_names
    for layer in layers:
        parts = [layer.weight, layer.bias, *layer.inputs, layer.output]
        roles = [Role.WEIGHT, Role.BIAS, Role.INPUT, Role.OUTPUT]
        assert [part.role for part in parts if part] == [role for part, role in zip(parts, roles, strict=True) if part]
        assert {part.layer for part in parts if part} == {layer.name}


def folded(network: Any, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernel (in the layout of a .tflite) and bias of a Keras layer with the batch norm that follows it folded in."""
    layer = network.get_layer(name)
    kernel = np.asarray(layer.kernel, np.float64)
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    bias = np.asarray(layer.bias, np.float64) if layer.use_bias else 0.0
    norms = [other for other in network.layers if other.name == f"{name}_bn"]
    if norms:
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in norms[0].get_weights())
        factor = gamma / np.sqrt(variance + norms[0].epsilon)
        kernel, bias = kernel * (factor[:, None] if depthwise else factor), (bias - mean) * factor + beta
    if depthwise:
        return kernel.transpose(3, 0, 1, 2), bias
    return (kernel.transpose(3, 0, 1, 2) if kernel.ndim == 4 else kernel.T), bias


@pytest.mark.parametrize("model_id", [*MODELS, *MORE, pytest.param("efficientnet-lite0", marks=pytest.mark.matrix)])
def test_references_are_the_folded_weights_of_the_layer_of_that_name(converted, subject, model_id):
    network = subject(model_id).model.keras_model()
    for code in CODES:
        for layer in converted(model_id, code).layers():
            kernel, bias = folded(network, layer.name)
            np.testing.assert_allclose(layer.weight.reference, kernel, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(layer.bias.reference, bias, rtol=1e-3, atol=1e-5)


@every_variant
def test_codes_stand_for_the_reference(converted, model_id, code, options):
    usual = 13.0 if "wi4" in code else 25.0 if options.get("per_channel") is False else 35.0
    floor_db = {"float32": None, "float16": 65.0}.get(code, usual)
    for layer in converted(model_id, code, **options).layers():
        weight = layer.weight
        assert weight.codes.shape == weight.reference.shape
        assert weight.reference.dtype == np.float32
        values = weight.codes if weight.params is None else dequantize(weight.codes, weight.params)
        error = tensor_error(weight.reference, values)
        assert error.exact if weight.dtype == "float32" else error.sqnr_db > floor_db


@every_variant
def test_ranges_and_biases_follow_the_specification(converted, model_id, code, options):
    for layer in converted(model_id, code, **options).layers():
        if layer.weight.dtype in ("int8", "int4"):
            highest = {"int8": 127, "int4": 7}[layer.weight.dtype]
            assert (layer.weight.params.qmin, layer.weight.params.qmax) == (-highest, highest)
            assert np.abs(layer.weight.codes).max() == highest
            assert not layer.weight.params.zero_point.any()
        ranges = {"int8": (-128, 127), "int16": (-32768, 32767)}
        for activation in (*layer.inputs, layer.output):
            if activation.params:
                assert (activation.params.qmin, activation.params.qmax) == ranges[activation.dtype]
        if layer.bias.params:
            product = layer.inputs[0].params.scale * layer.weight.params.scale
            np.testing.assert_allclose(layer.bias.params.scale, product, rtol=1e-5)
            assert not layer.bias.params.zero_point.any()


@pytest.mark.parametrize(
    ("code", "weight", "bias", "activation", "runs_in"),
    [
        ("float32", "float32", "float32", "float32", "float32"),
        ("float16", "float16", "float16", "float32", "float32"),
        ("static_wi8_ai8", "int8", "int32", "int8", "int8"),
        ("static_wi8_ai16", "int8", "int64", "int16", "int16x8"),
        ("dynamic_wi4", "int4", "float32", "float32", "hybrid int4"),
        ("static_wi4_ai8", "int4", "int32", "int8", "int8x4"),
        ("weight_only_wi8", "int8", "float32", "float32", "float32"),
        ("weight_only_wi4", "int4", "float32", "float32", "float32"),
    ],
)
def test_types_of_a_technique_reach_every_layer(converted, code, weight, bias, activation, runs_in):
    for layer in converted("fashion-resnet", code).layers():
        found = (layer.weight.dtype, layer.bias.dtype, layer.inputs[0].dtype, layer.output.dtype, layer.runs_in)
        assert found == (weight, bias, activation, activation, runs_in)
        assert layer.quantized == (code != "float32")
        assert (layer.why_not is None) == layer.quantized


@pytest.mark.parametrize("model_id", [*MODELS, *MORE])
def test_dynamic_range_leaves_small_weights_in_float_and_says_so(converted, model_id):
    for layer in converted(model_id, "dynamic_wi8").layers():
        large = layer.weight.codes.size >= 1024
        assert layer.quantized == large
        assert layer.weight.dtype == ("int8" if large else "float32")
        assert layer.runs_in == ("hybrid int8" if large else "float32")
        assert layer.why_not is None if large else f"{layer.weight.codes.size} weights" in layer.why_not


@pytest.mark.parametrize("code", RECIPES)
@every_model
def test_types_and_bytes_of_weights_are_those_in_the_file(converted, model_id, code):
    """Read through the flatbuffer's accessors: the runtime itself calls int4 int8."""
    model = converted(model_id, code)
    file = schema.Model.GetRootAs(model.path.read_bytes(), 0)
    tensors = [file.Subgraphs(0).Tensors(index) for index in range(file.Subgraphs(0).TensorsLength())]
    stored = {tensor.Name().decode(): tensor for tensor in tensors}
    types = {"int8": schema.TensorType.INT8, "int4": schema.TensorType.INT4, "float32": schema.TensorType.FLOAT32}
    for layer in model.layers():
        tensor = stored[layer.weight.name]
        assert tensor.Type() == types[layer.weight.dtype]
        bits = {"int8": 8, "int4": 4, "float32": 32}[layer.weight.dtype]
        assert file.Buffers(tensor.Buffer()).DataLength() == -(-layer.weight.codes.size * bits // 8)


@pytest.mark.parametrize("code", ["dynamic_wi4", "static_wi4_ai8", "weight_only_wi4"])
def test_a_depthwise_convolution_has_no_four_bits_and_says_so(converted, code):
    for layer in converted("fashion-cnn", code).layers():
        depthwise = layer.op == "DEPTHWISE_CONV_2D"
        assert layer.weight.dtype == ("float32" if depthwise else "int4")
        assert layer.quantized != depthwise
        assert layer.why_not is None if not depthwise else "depthwise" in layer.why_not


def test_per_tensor_has_one_scale_and_per_channel_one_for_each_channel(converted):
    per_channel = converted("fashion-cnn", "static_wi8_ai8").layers()
    per_tensor = converted("fashion-cnn", "static_wi8_ai8", per_channel=False).layers()
    for fine, coarse in zip(per_channel, per_tensor, strict=True):
        assert coarse.weight.params.axis is None
        assert fine.weight.params.axis == (3 if fine.op == "DEPTHWISE_CONV_2D" else 0)
        assert fine.weight.params.scale.size == fine.weight.codes.shape[fine.weight.params.axis]
        assert coarse.weight.params.scale[0] == pytest.approx(fine.weight.params.scale.max())
