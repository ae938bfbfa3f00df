"""Predictions, activations and sessions against a plain interpreter and against Keras."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from models.architecture import BatchNorm, Relu
from quantizers.adapter import Batch
from quantizers.numerics import tensor_error
from quantizers.tflite.adapter import TFLiteAdapter

pytestmark = pytest.mark.adapter

ROOT = Path(__file__).parents[3]
MODELS = ["mnist-mlp", "fashion-cnn", "fashion-resnet"]
MORE = [pytest.param("mnist-cnn", marks=pytest.mark.matrix)]
"""Has no kind of layer that the others lack."""
CONVERTER = ["float32", "dynamic_wi8", "static_wi8_ai8", "static_wi8_ai16", "float16"]
RECIPES = ["dynamic_wi4", "static_wi4_ai8", "weight_only_wi8", "weight_only_wi4"]
CODES = CONVERTER + RECIPES
ROUNDING = {"weight_only_wi4": 1e-6}
"""Codes whose logits depend on the batch and on the threads, by this much of the largest: LiteRT chooses a float32 kernel."""
every_model = pytest.mark.parametrize("model_id", [*MODELS, *MORE])
every_code = pytest.mark.parametrize("code", CODES)


def plain_loop(path: Path, batch: Batch) -> NDArray[np.float64]:
    """Logits one sample at a time, quantized and dequantized as the runtime's documentation says."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    logits = []
    for sample in batch:
        value = sample[np.newaxis]
        if source["dtype"] != np.float32:
            scale, zero_point = source["quantization"]
            limits = np.iinfo(source["dtype"])
            value = np.clip(np.round(value / scale) + zero_point, limits.min, limits.max).astype(source["dtype"])
        interpreter.set_tensor(source["index"], value)
        interpreter.invoke()
        logits.append(interpreter.get_tensor(result["index"])[0].astype(np.float64))
    values = np.array(logits)
    scale, zero_point = result["quantization"]
    return values if result["dtype"] == np.float32 else (values - zero_point) * scale


@every_model
@every_code
def test_predict_equals_a_plain_loop_over_the_runtime(converted, subject, model_id, code):
    model, x = converted(model_id, code), subject(model_id).x[:40]
    logits = model.predict(x)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(
        logits, plain_loop(model.path, x), rtol=1e-6, atol=max(1e-7, ROUNDING.get(code, 0.0) * np.abs(logits).max())
    )


@every_model
@every_code
def test_a_result_does_not_depend_on_the_batch(converted, subject, model_id, code):
    model, x = converted(model_id, code), subject(model_id).x[:130]
    together = model.predict(x)
    apart = np.concatenate([model.predict(x[:7]), model.predict(x[7:8]), model.predict(x[8:])])
    np.testing.assert_allclose(together, apart, rtol=0, atol=ROUNDING.get(code, 0.0) * np.abs(together).max())


@every_model
@every_code
def test_accuracy_is_close_to_that_of_keras(converted, subject, model_id, code):
    case = subject(model_id)
    n = 100 if code == "static_wi8_ai16" else len(case.x)  # 16-bit activations run in reference kernels, about 3 ms a sample
    keras_logits = np.asarray(case.model.keras_model()(case.x[:n]))
    logits = converted(model_id, code).predict(case.x[:n])
    drop = np.mean(keras_logits.argmax(1) == case.y[:n]) - np.mean(logits.argmax(1) == case.y[:n])
    assert abs(drop) <= (0.0 if code == "float32" else 0.05 if "wi4" in code else 0.015)
    floor_db = {"float32": 90.0, "float16": 55.0}.get(code, 12.0 if "wi4" in code else 25.0)
    assert tensor_error(keras_logits, logits).sqnr_db > floor_db


@pytest.mark.parametrize(("io", "dtype"), [("int8", np.int8), ("uint8", np.uint8), ("float32", np.float32)])
def test_io_is_the_type_of_the_models_input_and_output(converted, subject, io, dtype):
    model, x = converted("fashion-cnn", "static_wi8_ai8", io=io), subject("fashion-cnn").x[:100]
    interpreter = Interpreter(str(model.path))
    assert interpreter.get_input_details()[0]["dtype"] == dtype
    assert interpreter.get_output_details()[0]["dtype"] == dtype
    np.testing.assert_allclose(model.predict(x), plain_loop(model.path, x), rtol=1e-6, atol=1e-7)
    step = model.layers()[-1].output.params.scale[0]
    difference = np.abs(model.predict(x) - converted("fashion-cnn", "static_wi8_ai8").predict(x)).max()
    assert difference <= 2 * step


def test_per_tensor_weights_predict_otherwise_than_per_channel_ones(converted, subject):
    x = subject("fashion-cnn").x[:200]
    float_logits = converted("fashion-cnn", "float32").predict(x)
    fine = tensor_error(float_logits, converted("fashion-cnn", "static_wi8_ai8").predict(x))
    coarse = tensor_error(float_logits, converted("fashion-cnn", "static_wi8_ai8", per_channel=False).predict(x))
    assert fine.sqnr_db > coarse.sqnr_db


@every_model
@every_code
def test_activations_are_of_every_layer_and_end_in_the_logits(converted, subject, model_id, code):
    model, x = converted(model_id, code), subject(model_id).x[:110]
    outputs = model.activations(x)
    names = subject(model_id).model.layer_names
    assert tuple(outputs) == names
    assert all(values.dtype == np.float32 and len(values) == 110 for values in outputs.values())
    np.testing.assert_array_equal(outputs[names[-1]], model.predict(x))
    reference = converted(model_id, "float32").activations(x)
    for name, values in outputs.items():
        assert values.shape == reference[name].shape
        error = tensor_error(reference[name], values)
        assert error.exact or error.sqnr_db > (10 if "wi4" in code else 20)


@every_model
def test_float_activations_are_those_of_keras_after_the_fused_activation(converted, subject, model_id):
    import keras

    model, x = subject(model_id).model, subject(model_id).x[:50]
    network = model.keras_model()
    fused_behind = {node.inputs[0]: node.name for node in model.architecture.nodes if isinstance(node, BatchNorm | Relu)}
    for name, values in converted(model_id, "float32").activations(x).items():
        last = name
        while last in fused_behind:
            last = fused_behind[last]
        ours = np.asarray(keras.Model(network.input, network.get_layer(last).output)(x))
        np.testing.assert_allclose(values, ours, rtol=1e-3, atol=1e-5 * np.abs(ours).max())


@every_code
def test_a_session_runs_what_predict_runs(converted, subject, code):
    model, x = converted("fashion-cnn", code), subject("fashion-cnn").x[:5]
    session = TFLiteAdapter().open(model.path, {}, threads=2)
    for batch in (x[:1], x, x[:1]):
        prepared = session.prepare(batch)
        expected = model.predict(batch)
        rounding = ROUNDING.get(code, 0.0) * np.abs(expected).max()
        np.testing.assert_allclose(session.logits(session.run(prepared)), expected, rtol=0, atol=rounding)
        np.testing.assert_array_equal(session.run(prepared), session.run(prepared))


def test_opening_an_artefact_does_not_import_tensorflow(converted):
    path = converted("fashion-cnn", "static_wi8_ai8").path
    script = """
import json, sys
from pathlib import Path
import numpy as np
from quantizers import registry
from quantizers.schema import Backend
adapter = registry.get(Backend.TFLITE)
session = adapter.open(Path(sys.argv[1]), {}, 1)
output = session.run(session.prepare(np.zeros((1, 28, 28, 1), np.float32)))
heavy = sorted({"tensorflow", "keras", "torch"} & set(sys.modules))
print(json.dumps({"shape": output.shape, "dtype": output.dtype.name, "versions": dict(adapter.versions()), "heavy": heavy}))
"""
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["heavy"] == []
    assert (said["shape"], said["dtype"]) == ([1, 10], "int8")
    assert set(said["versions"]) == {"tensorflow", "keras", "ai-edge-litert", "litert-quantizer"}


def test_converting_leaves_stdout_to_its_caller(tmp_path):
    script = """
import json, sys
from pathlib import Path
from models import zoo
from quantizers.adapter import Request
from quantizers.schema import Technique
from quantizers.tflite.adapter import TFLiteAdapter
request = Request(Technique.parse("float16"), {}, None, Path(sys.argv[1]))
model = TFLiteAdapter().quantize(zoo.load("mnist-mlp"), request, lambda fraction, what: None)
print(json.dumps([layer.name for layer in model.layers()]))
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["dense1", "dense2"]
    assert "Saved artifact" in done.stderr
