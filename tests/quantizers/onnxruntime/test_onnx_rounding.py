"""Rounding for what layers put out: nearer to float than rounding to the nearest code, as the runtime itself computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantizers.errors import BadData
from quantizers.numerics import dequantize, tensor_error
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
from quantizers.onnxruntime.improve import OutputRounding
from quantizers.pytorch.weights import Choice, integers

pytestmark = pytest.mark.adapter

GAIN_DB = 5
RNG_SEED = 3
ODD = {"group": 2, "pads": [0, 1, 2, 0], "strides": [2, 1], "dilations": [1, 2]}


@pytest.mark.parametrize(("model_id", "code"), [("fashion-resnet", "weight_only_wi4"), ("fashion-cnn", "weight_only_wi2_g32")])
def test_outputs_come_nearer_to_float_than_with_nearest_codes_on_the_same_grid(quantized, subject, model_id, code):
    x = subject(model_id).x[:200]
    model, nearest = quantized(model_id, code, rounding="compensated"), quantized(model_id, code)
    expected = quantized(model_id, "float32").predict(x)
    np.testing.assert_array_equal(model.plain.predict(x), nearest.predict(x))
    assert nearest.plain is None
    better, plain = (tensor_error(expected, one.predict(x)).sqnr_db for one in (model, nearest))
    assert better > plain + GAIN_DB
    for own, before in zip(model.layers(), nearest.layers(), strict=True):
        np.testing.assert_array_equal(own.weight.params.scale, before.weight.params.scale)
        np.testing.assert_array_equal(own.weight.params.zero_point, before.weight.params.zero_point)
        assert own.weight.dtype == before.weight.dtype
    (step,) = (step for step in model.steps if step.name == "Rounding")
    assert "64 samples" in step.outcome
    assert not any(step.name == "Rounding" for step in model.plain.steps)


def test_without_samples_there_is_nothing_to_round_for(subject, request_for):
    request = request_for("weight_only_wi4", options={"rounding": "compensated"})
    with pytest.raises(BadData):
        OnnxRuntimeAdapter().quantize(subject("mnist-cnn").model, request, lambda fraction, what: None)


def one_layer(kind: str, weight: NDArray[np.float32], input_shape: list[Any], **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(kind, ["x", "w"], ["y"], name="layer", **attributes)
    graph = helper.make_graph(
        [node],
        "one layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *input_shape])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def computed(model: onnx.ModelProto, x: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the runtime makes of `x` with other weights."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight, np.float32), "w"))
    session = onnxruntime.InferenceSession(other.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return y


@pytest.mark.parametrize(
    ("method", "kind", "shape", "rows_first", "attributes"),
    [
        (
            "compensated",
            "Conv",
            (8, 2, 3, 3),
            False,
            {"group": 2, "pads": [0, 1, 2, 0], "strides": [2, 1], "dilations": [1, 2]},
        ),
        ("compensated", "Conv", (4, 1, 3, 3), False, {"group": 4}),
        ("compensated", "Gemm", (12, 20), False, {"transB": 1}),
        ("compensated", "MatMul", (20, 12), True, {}),
        ("learned", "Conv", (4, 4, 3, 3), False, {"pads": [1, 1, 1, 1]}),
        ("learned", "MatMul", (20, 12), True, {}),
    ],
    ids=["conv-odd-padding", "conv-depthwise", "gemm", "matmul", "conv-learned", "matmul-learned"],
)
def test_a_layer_of_any_geometry_errs_less_in_the_runtimes_own_computation(method, kind, shape, rows_first, attributes):
    rng = np.random.default_rng(RNG_SEED)
    stored = rng.normal(size=shape).astype(np.float32)
    feature_shape = [4, 10, 10] if kind == "Conv" else [20]
    x = rng.normal(size=(40, *feature_shape)).cumsum(axis=-1).astype(np.float32)  # correlated, as images are
    model = one_layer(kind, stored, feature_shape, **attributes)
    weight = stored.T if rows_first else stored
    codes, params = integers(weight, 3, Choice())
    samples = x.transpose(0, 2, 3, 1) if kind == "Conv" else x
    better = OutputRounding(method, model, samples).codes("layer", weight, (codes, params), model)
    assert better.shape == codes.shape

    def error(some: NDArray[np.int64]) -> float:
        restored = dequantize(some, params).astype(np.float32)
        return float(((computed(model, x, restored.T if rows_first else restored) - computed(model, x, stored)) ** 2).sum())

    assert error(better) < 0.8 * error(codes)


@pytest.mark.parametrize("attributes", [{"auto_pad": "SAME_UPPER"}, {"kernel_shape": [3]}], ids=["auto_pad", "one-dimensional"])
def test_a_layer_of_a_form_that_is_not_understood_is_rounded_to_the_nearest_and_named(attributes):
    rng = np.random.default_rng(RNG_SEED)
    weight = rng.normal(size=(4, 2, 3) if "kernel_shape" in attributes else (4, 2, 3, 3)).astype(np.float32)
    model = one_layer("Conv", weight, [2, *[9] * (weight.ndim - 2)], **attributes)
    rounded = integers(weight, 4, Choice())
    rounding = OutputRounding("compensated", model, np.zeros((2, *[9] * (weight.ndim - 2), 2), np.float32))
    np.testing.assert_array_equal(rounding.codes("layer", weight, rounded, model), rounded[0])
    assert "layer" in rounding.step.outcome
    assert "nearest" in rounding.step.outcome
