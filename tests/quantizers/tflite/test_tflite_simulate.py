"""Binary and ternary weights against the papers' formulas in plain loops, and against what the runtime computes."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from quantizers.adapter import Request
from quantizers.numerics import dequantize
from quantizers.schema import Execution, Technique
from quantizers.tflite.adapter import TFLiteAdapter

pytestmark = pytest.mark.adapter

MODELS = ["mnist-mlp", "fashion-cnn", "fashion-resnet"]
MORE = [pytest.param("mnist-cnn", marks=pytest.mark.matrix)]
"""Has no kind of layer that the others lack."""
CODES = ["binary", "ternary"]
every_model = pytest.mark.parametrize("model_id", [*MODELS, *MORE])
every_code = pytest.mark.parametrize("code", CODES)


def by_the_paper(channel: NDArray[np.float64], code: str) -> tuple[float, NDArray[np.float64]]:
    """α and codes of the weights of one output channel."""
    values = channel.ravel().tolist()
    mean = sum(abs(value) for value in values) / len(values)
    if code == "binary":
        return mean, np.array([1.0 if value >= 0 else -1.0 for value in values]).reshape(channel.shape)
    large = [abs(value) for value in values if abs(value) >= 0.7 * mean]
    signs = [0.0 if abs(value) < 0.7 * mean else 1.0 if value >= 0 else -1.0 for value in values]
    return sum(large) / len(large), np.array(signs).reshape(channel.shape)


@every_model
@every_code
def test_codes_and_scales_are_those_of_the_paper(converted, model_id, code):
    model = converted(model_id, code)
    assert model.execution is Execution.SIMULATED
    assert "float32" in model.execution_why
    for layer in model.layers():
        weight = layer.weight
        assert (weight.dtype, layer.runs_in, layer.quantized) == ({"binary": "int1", "ternary": "int2"}[code], "float32", True)
        assert (weight.params.qmin, weight.params.qmax) == (-1, 1)
        assert set(np.unique(weight.codes)) == ({-1, 1} if code == "binary" else {-1, 0, 1})
        reference = np.moveaxis(weight.reference.astype(np.float64), weight.params.axis, 0)
        codes = np.moveaxis(weight.codes, weight.params.axis, 0)
        for index, channel in enumerate(reference):
            alpha, signs = by_the_paper(channel, code)
            assert weight.params.scale[index] == pytest.approx(alpha, rel=1e-6)
            np.testing.assert_array_equal(codes[index], signs)


@every_model
@every_code
def test_the_runtime_holds_these_weights_and_nothing_else_has_changed(converted, model_id, code):
    ours, plain = (Interpreter(str(converted(model_id, name).path)) for name in (code, "float32"))
    weights = {layer.weight.name: layer.weight for layer in converted(model_id, code).layers()}
    for found, other in zip(ours.get_tensor_details(), plain.get_tensor_details(), strict=True):
        assert (found["name"], found["dtype"]) == (other["name"], other["dtype"])
        if found["name"] in weights:
            weight = weights[found["name"]]
            held = ours.tensor(found["index"])()
            np.testing.assert_allclose(held, dequantize(weight.codes, weight.params), rtol=1e-6)
    for layer, reference in zip(converted(model_id, code).layers(), converted(model_id, "float32").layers(), strict=True):
        np.testing.assert_array_equal(layer.bias.codes, reference.bias.codes)


@every_code
def test_layers_kept_in_float_keep_their_weights(subject, converted, shared, tmp_path, code):
    case = subject("fashion-cnn")
    request = Request(Technique.parse(code), {}, None, tmp_path, keep_float=("conv1", "dense"), shared=shared)
    model = TFLiteAdapter().quantize(case.model, request, lambda fraction, what: None)
    for layer, whole in zip(model.layers(), converted("fashion-cnn", code).layers(), strict=True):
        kept = layer.name in ("conv1", "dense")
        assert layer.quantized != kept
        assert layer.why_not == ("Kept in float, as asked." if kept else None)
        np.testing.assert_array_equal(layer.weight.codes, layer.weight.reference if kept else whole.weight.codes)
