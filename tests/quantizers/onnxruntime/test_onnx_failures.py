"""What must not pass silently: unusable samples, models the runtime refuses, and techniques that quantize nothing."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import zoo
from models.architecture import INPUT, Architecture, Conv2d, Dense, Flatten, GlobalAveragePool, Relu
from models.float_model import ZooModel
from quantizers.errors import BadData, ConversionFailed, NothingQuantized, UnknownName, Unsupported
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
from quantizers.schema import Technique

pytestmark = pytest.mark.adapter

RNG = np.random.default_rng(0)
SAMPLES = RNG.standard_normal((40, 6, 6, 3)).astype(np.float32)


def quiet(fraction: float, what: str) -> None:
    """A report that nobody reads."""


def small(*nodes: Any) -> ZooModel:
    """A model of the test's own with random weights, taking 6 × 6 × 3."""
    architecture = Architecture((6, 6, 3), nodes)
    weights = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in architecture.weight_shapes.items()}
    info = replace(next(iter(zoo.catalogue())), input_shape=(6, 6, 3), classes=4)
    return ZooModel(info, architecture, weights)


def two_layers() -> ZooModel:
    return small(
        Conv2d("conv1", (INPUT,), filters=5),
        Relu("relu1", ("conv1",)),
        Flatten("flatten", ("relu1",)),
        Dense("dense", ("flatten",), units=4),
    )


@pytest.mark.parametrize("code", ["static_wi8_ai8", "static_wi8_ai16", "static_wi4_ai8", "hybrid_wf16_ai8", 'mixed:{"*":4}'])
@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (None, "there are none"),
        (SAMPLES[:0], "there are none"),
        (np.full_like(SAMPLES, np.nan), "40 of 40"),
        (np.where(np.arange(40)[:, None, None, None] == 3, np.float32("inf"), SAMPLES), "1 of 40"),
        (SAMPLES[:, :4], r"\(4, 6, 3\); the model takes \(6, 6, 3\)"),
        (np.zeros_like(SAMPLES), "no range"),
    ],
    ids=["none", "empty", "all-nan", "one-infinite", "shape", "constant"],
)
def test_unusable_calibration_samples_are_refused(request_for, code, samples, said):
    with pytest.raises(BadData, match=said):
        OnnxRuntimeAdapter().quantize(two_layers(), request_for(code, samples), quiet)


@pytest.mark.parametrize("code", ["static_wi8_ai8", "dynamic_wi8", "float16", "weight_only_wi4", "ternary", "hybrid_wf16_ai8"])
def test_keeping_every_layer_float_quantizes_nothing_and_says_so(request_for, code):
    asked = request_for(code, SAMPLES, keep_float=("conv1", "dense"))
    with pytest.raises(NothingQuantized, match="left every layer in float") as caught:
        OnnxRuntimeAdapter().quantize(two_layers(), asked, quiet)
    assert "conv1: Kept in float, as asked." in caught.value.hint


@pytest.mark.parametrize("code", ["dynamic_wi8", "static_wi8_ai8"])
def test_dense_layers_only_on_a_model_without_one_quantizes_nothing(request_for, code):
    model = small(Conv2d("conv1", (INPUT,), filters=4), GlobalAveragePool("pool", ("conv1",)))
    with pytest.raises(NothingQuantized) as caught:
        OnnxRuntimeAdapter().quantize(model, request_for(code, SAMPLES, options={"op_types": "dense"}), quiet)
    assert "Only dense layers were asked for." in caught.value.hint


def test_mixed_precision_all_in_float_quantizes_nothing(request_for):
    with pytest.raises(NothingQuantized):
        OnnxRuntimeAdapter().quantize(two_layers(), request_for('mixed:{"*":"float"}', SAMPLES), quiet)


@pytest.mark.parametrize("code", ["bfloat16", "dynamic_wi4", "static_wi8_ai8_g32", "weight_only_wi4_g7", "static_wi2_ai8"])
def test_techniques_without_a_recipe_are_refused_not_replaced(request_for, code):
    with pytest.raises(Unsupported, match=code):
        OnnxRuntimeAdapter().quantize(two_layers(), request_for(code, SAMPLES), quiet)


def test_layers_that_do_not_exist_are_refused_with_the_nearest_name(request_for):
    with pytest.raises(UnknownName) as caught:
        OnnxRuntimeAdapter().quantize(two_layers(), request_for("float16", keep_float=("conv",)), quiet)
    assert "conv1" in caught.value.hint
    with pytest.raises(UnknownName, match="dnse"):
        OnnxRuntimeAdapter().quantize(two_layers(), request_for('mixed:{"dnse":4,"*":8}', SAMPLES), quiet)


def test_mixed_precision_prefers_a_name_to_a_pattern_and_leaves_the_rest_float():
    names = ["stem", "block1_conv1", "block1_conv2", "dense"]
    technique = Technique.parse('mixed:{"block*":4,"*_conv2":2,"block1_conv1":8,"dense":"float"}')
    assert technique.bits_by_layer(names) == {"stem": 0, "block1_conv1": 8, "block1_conv2": 4, "dense": 0}


@pytest.mark.parametrize("name", ["conv1.weight", "dense.bias"])
@pytest.mark.parametrize("code", ["float32", "static_wi8_ai8", "ternary"])
def test_weights_that_are_not_numbers_are_refused(request_for, name, code):
    model = two_layers()
    broken = model.weights[name].copy()
    broken.flat[0] = np.nan
    model = replace(model, weights={**model.weights, name: broken})
    with pytest.raises(ConversionFailed, match=f"{name.partition('.')[0]} hold NaN"):
        OnnxRuntimeAdapter().quantize(model, request_for(code, SAMPLES), quiet)


def test_a_model_without_a_weighted_layer_is_refused(request_for):
    model = small(Relu("relu1", (INPUT,)), GlobalAveragePool("pool", ("relu1",)))
    with pytest.raises(NothingQuantized, match="no convolution and no dense layer"):
        OnnxRuntimeAdapter().quantize(model, request_for("float32"), quiet)


@dataclass(frozen=True)
class Strange:
    """A model whose ONNX form holds an operation that no runtime knows."""

    info: Any
    layer_names: tuple[str, ...] = ("odd",)

    def onnx_model(self) -> Any:
        shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Odd", ["x"], ["y"], name="odd")], "odd", shape[:1], shape[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_a_model_the_runtime_refuses_is_an_error_with_its_words(request_for):
    with pytest.raises(ConversionFailed, match=r"ONNX Runtime refused the model: .*Odd"):
        OnnxRuntimeAdapter().quantize(Strange(two_layers().info), request_for("float32"), quiet)


@dataclass(frozen=True)
class Shares:
    """A model that divides its input by its sum, as a mean over a mask does: of zeros it computes NaN."""

    info: Any
    layer_names: tuple[str, ...] = ("dense",)

    def onnx_model(self) -> Any:
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
        nodes = [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], name="sum"),
            helper.make_node("Div", ["x", "sum"], ["shares"], name="shares"),
            helper.make_node("MatMul", ["shares", "weight"], ["y"], name="dense"),
        ]
        constants = {"axes": np.array([1]), "weight": np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)}
        stored = [numpy_helper.from_array(values, name) for name, values in constants.items()]
        graph = helper.make_graph(nodes, "shares", ports[:1], ports[1:], stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("code", ["float32", "dynamic_wi8", "weight_only_wi4"])
def test_a_model_to_which_zeros_mean_nothing_needs_no_samples_to_be_checked(request_for, code):
    result = OnnxRuntimeAdapter().quantize(Shares(two_layers().info), request_for(code), quiet)
    assert np.isfinite(result.predict(np.ones((2, 3), np.float32))).all()


def test_layers_with_equal_weights_keep_their_own_names(request_for):
    model = small(
        Flatten("flatten", (INPUT,)),
        Dense("dense1", ("flatten",), units=8),
        Dense("dense2", ("dense1",), units=8),
        Dense("dense3", ("dense2",), units=8),
    )
    model.weights["dense3.weight"][:] = model.weights["dense2.weight"]
    for code in ("float32", "dynamic_wi8", "static_wi8_ai8", "weight_only_wi2", "weight_only_wi4_g32", "hybrid_wf16_ai8"):
        result = OnnxRuntimeAdapter().quantize(model, request_for(code, SAMPLES), quiet)
        assert [layer.name for layer in result.layers()] == ["dense1", "dense2", "dense3"]
        assert np.isfinite(result.predict(SAMPLES)).all()


def test_channels_that_are_all_zero_stay_zero(request_for):
    model = two_layers()
    model.weights["conv1.weight"][2] = 0
    for code in ("weight_only_wi4", "weight_only_wi2", "binary", "ternary", "static_wi8_ai8"):
        layer = OnnxRuntimeAdapter().quantize(model, request_for(code, SAMPLES), quiet).layers()[0]
        restored = layer.weight.codes.reshape(5, -1)[2] * layer.weight.params.scale[2]
        assert not restored.any() or code == "binary"
        assert (layer.weight.params.scale > 0).all()


def test_progress_grows_and_counts_the_samples(request_for):
    seen: list[tuple[float, str]] = []
    OnnxRuntimeAdapter().quantize(two_layers(), request_for("static_wi8_ai8", SAMPLES), lambda f, what: seen.append((f, what)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] < 1
    assert {"Calibrating: 32 of 40 samples", "Calibrating: 40 of 40 samples"} <= {what for _, what in seen}
