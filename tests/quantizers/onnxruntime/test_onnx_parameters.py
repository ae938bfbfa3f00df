"""Scales, zero points, axes, codes and names against a plain reading of the file that shares no code with the adapter.

What that reading finds is checked against the runtime as well: the weights that stored codes stand for are those the runtime
itself computes from the file.
"""

from typing import Any

import numpy as np
import onnx
import onnx_reader
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from quantizers.numerics import dequantize, tensor_error
from quantizers.onnxruntime.model import OnnxModel
from quantizers.schema import QuantizedTensor, Role

pytestmark = pytest.mark.adapter

MODELS = ["mnist-cnn", "fashion-cnn"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("float32", {}),
    ("float16", {}),
    ("dynamic_wi8", {}),
    ("dynamic_wi8", {"op_types": "dense"}),
    ("dynamic_wi8", {"types": "u8u8"}),
    ("dynamic_wi4_g32", {}),
    ("dynamic_wi4_g32", {"scheme": "affine", "weight_range": "mse"}),
    ("static_wi8_ai8", {}),
    ("static_wi8_ai8", {"op_types": "dense"}),
    ("static_wi8_ai8", {"types": "s8s8"}),
    ("static_wi8_ai8", {"types": "u8u8"}),
    ("static_wi8_ai8", {"format": "qoperator"}),
    ("static_wi8_ai8", {"format": "qoperator", "per_channel": False}),
    ("static_wi8_ai8", {"per_channel": False, "reduce_range": True}),
    ("static_wi8_ai8", {"calibrator": "entropy"}),
    ("static_wi8_ai8", {"calibrator": "percentile"}),
    ("static_wi8_ai8", {"calibrator": "moving_average"}),
    ("static_wi8_ai8", {"keep_float": ("conv1",)}),
    ("static_wi8_ai16", {}),
    ("static_wi4_ai8", {}),
    *((f"weight_only_wi{bits}", {"scheme": scheme}) for bits in (8, 4, 2) for scheme in ("symmetric", "affine")),
    *((f"weight_only_wi{bits}_g32", {"scheme": scheme}) for bits in (8, 4, 2) for scheme in ("symmetric", "affine")),
    ("weight_only_wi8_g128", {}),
    ("weight_only_wi4_g64", {"scheme": "affine"}),
    ("weight_only_wi2_g64", {}),
    ("binary", {}),
    ("ternary", {}),
    ("hybrid_wf16_ai8", {}),
    ('mixed:{"conv1":4,"dense":"float","*":8}', {}),
    ('mixed:{"conv1":16,"dense":2}', {}),
]
every_model = pytest.mark.parametrize("model_id", MODELS)
IDS = [f"{code}-{'-'.join(map(str, options.values()))}" for code, options in VARIANTS]
every_variant = pytest.mark.parametrize(("code", "options"), VARIANTS, ids=IDS)


def assert_same(tensor: QuantizedTensor, truth: onnx_reader.Found) -> None:
    assert tensor.dtype == truth.dtype
    if truth.codes is not None:
        assert tensor.codes is not None
        np.testing.assert_array_equal(tensor.codes, truth.codes.astype(tensor.codes.dtype))
    if truth.scale is None:
        assert tensor.params is None
        return
    assert tensor.params is not None
    assert truth.zero_point is not None
    np.testing.assert_array_equal(tensor.params.scale, truth.scale.astype(np.float64).ravel())
    zeros = np.broadcast_to(truth.zero_point.astype(np.int64).ravel(), tensor.params.zero_point.shape)
    np.testing.assert_array_equal(tensor.params.zero_point, zeros)
    assert (tensor.params.axis, tensor.params.group_size) == (truth.axis, truth.block)
    assert tensor.params.dtype == tensor.dtype


@every_model
@every_variant
def test_every_tensor_is_what_a_plain_reading_finds(quantized, model_id, code, options):
    model: OnnxModel = quantized(model_id, code, **options)
    plain = onnx_reader.Plain(onnx.load(model.path))
    for layer in model.layers():
        node = plain.node(layer.name)
        assert (layer.op, layer.native_name) == (node.op_type, node.name)
        assert_same(layer.weight, onnx_reader.weight(plain, node))
        assert_same(layer.inputs[0], onnx_reader.data(plain, node))
        assert_same(layer.output, onnx_reader.output(plain, node))
        if node.op_type in ("Conv", "Gemm", "MatMulNBits"):
            assert_same(layer.bias, plain.constant(plain.named(node)[onnx_reader.BIAS[node.op_type]]))
        elif node.op_type in onnx_reader.BIAS:  # the scale of these is the product of two others, and is not in the file
            np.testing.assert_array_equal(layer.bias.codes, plain.values(plain.named(node)[onnx_reader.BIAS[node.op_type]]))


@every_model
@every_variant
def test_layers_carry_the_models_names_in_its_order(quantized, subject, model_id, code, options):
    layers = quantized(model_id, code, **options).layers()
    assert tuple(layer.name for layer in layers) == subject(model_id).model.layer_names
    for layer in layers:
        parts = [layer.weight, layer.bias, *layer.inputs, layer.output]
        assert [part.role for part in parts] == [Role.WEIGHT, Role.BIAS, Role.INPUT, Role.OUTPUT]
        assert {part.layer for part in parts} == {layer.name}


def runtime_weight(model: onnx.ModelProto, node: onnx.NodeProto) -> NDArray[np.float32]:
    """The weights the runtime multiplies with: read out of the graph, or for MatMulNBits multiplied with an identity."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.node[:], probe.graph.output[:], probe.graph.input[:]
    made_by = {name: other for other in model.graph.node for name in other.output}
    if node.op_type == "MatMulNBits":
        size = next(entry.i for entry in node.attribute if entry.name == "K")
        alone = helper.make_node(node.op_type, ["eye", *node.input[1:4]], ["weight"], domain=node.domain)
        alone.attribute.extend(node.attribute)
        probe.graph.node.append(alone)
        probe.graph.input.append(helper.make_tensor_value_info("eye", onnx.TensorProto.FLOAT, [size, size]))
        probe.graph.output.append(onnx.ValueInfoProto(name="weight"))
        feeds = {"eye": np.eye(size, dtype=np.float32)}
    else:
        steps, name = [], node.input[1]
        while name in made_by:
            steps.append(made_by[name])
            name = made_by[name].input[0]
        probe.graph.node.extend(reversed(steps))
        probe.graph.output.append(onnx.ValueInfoProto(name=node.input[1]))
        feeds = {}
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    (weight,) = session.run(None, feeds)
    return weight.T if node.op_type == "MatMulNBits" else weight


@every_model
@every_variant
def test_codes_stand_for_the_weights_the_runtime_multiplies_with(quantized, model_id, code, options):
    model = quantized(model_id, code, **options)
    plain = onnx_reader.Plain(onnx.load(model.path))
    for layer in model.layers():
        node = plain.node(layer.name)
        weight = layer.weight
        real = weight.codes if weight.params is None else dequantize(weight.codes, weight.params)
        if node.op_type in ("Conv", "Gemm", "MatMulNBits") and node.input[1] not in plain.stored:
            truth = runtime_weight(plain.model, node)
            np.testing.assert_allclose(real.reshape(truth.shape), truth, rtol=1e-5, atol=1e-7)
        assert weight.reference.dtype == np.float32
        assert weight.reference.shape == weight.codes.shape


@pytest.mark.parametrize("model_id", ["mnist-mlp", "mnist-cnn", "fashion-cnn", "fashion-resnet"])
def test_references_are_the_weights_with_batch_norms_folded_in(quantized, subject, model_id):
    model, weights = subject(model_id).model, subject(model_id).model.weights
    for code in ("float32", "dynamic_wi8", "static_wi8_ai8", "weight_only_wi4_g32"):
        for layer in quantized(model_id, code).layers():
            kernel = weights[f"{layer.name}.weight"].astype(np.float64)
            bias = weights.get(f"{layer.name}.bias")
            if (norm := model.architecture.node(f"{layer.name}_bn")) is not None:
                kinds = ("weight", "bias", "running_mean", "running_var")
                gamma, beta, mean, variance = (weights[f"{norm.name}.{kind}"].astype(np.float64) for kind in kinds)
                factor = gamma / np.sqrt(variance + norm.epsilon)
                kernel, bias = kernel * factor[:, None, None, None], beta - mean * factor
            stored = layer.weight.reference
            expected = kernel.T if layer.op == "MatMulInteger" else kernel.reshape(stored.shape)
            np.testing.assert_allclose(stored, expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(layer.bias.reference.ravel(), bias, rtol=1e-3, atol=1e-5)


SQNR_FLOOR = {
    "float16": 65,
    "dynamic_wi4": 12,
    "weight_only_wi4": 12,
    "weight_only_wi2": 1,
    "static_wi4_ai8": 12,
    "binary": 2,
    "ternary": 4,
}


@every_model
@every_variant
def test_stored_weights_are_as_near_the_float_ones_as_their_bits_allow(quantized, model_id, code, options):
    floor = SQNR_FLOOR.get(code.split("_g")[0], 25 if options.get("reduce_range") else 30)
    for layer in quantized(model_id, code, **options).layers():
        weight = layer.weight
        real = weight.codes if weight.params is None else dequantize(weight.codes, weight.params)
        error = tensor_error(weight.reference, real)
        if code.startswith("mixed"):
            floor = {"int2": 1, "int4": 12, "float16": 65}.get(weight.dtype, 30)
        assert error.exact or error.sqnr_db > floor


def test_groups_err_less_than_channels_and_zero_points_less_than_none(quantized):
    def errors(code: str, scheme: str) -> NDArray[np.float64]:
        layers = quantized("fashion-cnn", code, scheme=scheme).layers()
        return np.array(
            [np.mean((lay.weight.reference - dequantize(lay.weight.codes, lay.weight.params)) ** 2) for lay in layers]
        )

    channel, group = errors("weight_only_wi4", "symmetric"), errors("weight_only_wi4_g32", "symmetric")
    assert (group <= channel * (1 + 1e-6)).all()
    assert (group < 0.95 * channel).sum() == 3  # the other layers have 32 weights a channel or fewer
    assert (errors("weight_only_wi4_g32", "affine") < group).all()


def test_binary_and_ternary_are_what_their_papers_define(quantized, subject):
    """By hand, channel by channel: XNOR-Net section 3.1 and Ternary Weight Networks equations 4 and 6."""
    for layer in quantized("fashion-cnn", "binary").layers():
        for row, codes, scale in zip(layer.weight.reference, layer.weight.codes, layer.weight.params.scale, strict=True):
            assert scale == pytest.approx(sum(abs(w) for w in row.ravel()) / row.size, rel=1e-5)
            assert codes.ravel().tolist() == [-1 if w < 0 else 1 for w in row.ravel()]
    for layer in quantized("fashion-cnn", "ternary").layers():
        for row, codes, scale in zip(layer.weight.reference, layer.weight.codes, layer.weight.params.scale, strict=True):
            threshold = 0.7 * np.abs(row).mean()
            assert codes.ravel().tolist() == [0 if abs(w) <= threshold else (1 if w > 0 else -1) for w in row.ravel()]
            assert scale == pytest.approx(np.mean([abs(w) for w in row.ravel() if abs(w) > threshold]), rel=1e-5)


@pytest.mark.parametrize(
    ("code", "bits"), [("weight_only_wi8", 8), ("weight_only_wi4", 4), ("weight_only_wi2", 2), ("ternary", 2)]
)
def test_codes_are_packed_as_small_as_they_say(quantized, code, bits):
    model = quantized("fashion-resnet", code)
    stored = {tensor.name: tensor for tensor in onnx.load(model.path).graph.initializer}
    for layer in model.layers():
        assert len(stored[layer.weight.name].raw_data) == -(-layer.weight.codes.size * bits // 8)
    parameters = sum(layer.weight.codes.size for layer in model.layers())
    assert model.path.stat().st_size < parameters * bits / 8 + 15_000


def test_mixed_precision_gives_each_layer_its_bits(quantized):
    layers = quantized("fashion-cnn", 'mixed:{"*":8,"block3_*":4,"dense":"float","conv1":16}').layers()
    assert {layer.name: layer.weight.dtype for layer in layers} == {
        "conv1": "float16",
        "conv2": "int8",
        "block3_dw": "int8",  # the first pattern that fits
        "block3_pw": "int8",
        "conv4": "int8",
        "dense": "float32",
    }
    assert next(layer.why_not for layer in layers if layer.name == "dense") == "Kept in float, as asked."


@pytest.mark.parametrize("types", ["u8s8", "u8u8"])
def test_dynamic_convolutions_have_a_scale_a_channel_unless_one_a_tensor_is_asked_for(quantized, subject, types):
    x = subject("fashion-cnn").x[:50]
    truth = quantized("fashion-cnn", "float32").predict(x)
    errors = {}
    for per_channel, axis in ((True, 0), (False, None)):
        model = quantized("fashion-cnn", "dynamic_wi8", types=types, per_channel=per_channel)
        convolutions = [layer for layer in model.layers() if layer.op == "ConvInteger"]
        assert len(convolutions) == 5
        assert {layer.weight.params.axis for layer in convolutions} == {axis}
        errors[per_channel] = tensor_error(truth, model.predict(x)).sqnr_db
    assert errors[True] > errors[False]
