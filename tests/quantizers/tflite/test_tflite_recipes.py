"""The engine that rewrites a float .tflite: what it needs, what it leaves alone, and the silence it is known for."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from quantizers.adapter import Request
from quantizers.capabilities import require_keep_float, techniques
from quantizers.errors import ConversionFailed, NothingQuantized, Unsupported
from quantizers.numerics import dequantize, tensor_error
from quantizers.schema import Backend, Mode, Technique
from quantizers.tflite import convert, recipes
from quantizers.tflite.adapter import TFLiteAdapter
from quantizers.tflite.describe import describe
from quantizers.tflite.model import TFLiteModel, check

pytestmark = pytest.mark.adapter

ROOT = Path(__file__).parents[3]
CODES = ["dynamic_wi4", "static_wi4_ai8", "weight_only_wi8", "weight_only_wi4"]
PARTLY = [*CODES, "static_wi8_ai8", "static_wi8_ai16", "dynamic_wi8", "float16"]
"""With layers kept in float, litert-quantizer makes what TensorFlow's converter otherwise does."""


def quiet(fraction: float, what: str) -> None:
    """A report that nobody reads."""


@pytest.fixture
def by_hand(converted, subject, tmp_path):
    """A technique past the capability table: the file, and the model made of it."""

    def build(model_id: str, code: str) -> tuple[TFLiteModel, bytes]:
        technique = Technique.parse(code)
        float_file = converted(model_id, "float32").path.read_bytes()
        file = recipes.quantize(float_file, technique, None, (), quiet)
        path = tmp_path / "model.tflite"
        path.write_bytes(file)
        kernels = convert.kernels(subject(model_id).model.keras_model())
        return TFLiteModel(path, describe(file, float_file, kernels, technique)), float_file

    return build


def test_two_bit_weight_only_is_a_silent_no_op_and_found_out(by_hand):
    """Why the capability table calls it impossible."""
    model, float_file = by_hand("mnist-cnn", "weight_only_wi2")
    assert {layer.weight.dtype for layer in model.layers()} == {"float32"}
    with pytest.raises(NothingQuantized):
        check(model, Technique.parse("weight_only_wi2"), float_file)


@pytest.mark.parametrize("code", PARTLY)
def test_layers_kept_in_float_stay_so_and_the_others_do_not(subject, converted, shared, tmp_path, code):
    case, technique = subject("fashion-cnn"), Technique.parse(code)
    samples = case.calibration if technique.needs_calibration else None
    request = Request(technique, {}, samples, tmp_path, ("conv4", "dense"), shared=shared)
    model = TFLiteAdapter().quantize(case.model, request, quiet)
    whole = {layer.name: layer for layer in converted("fashion-cnn", code).layers()}
    for layer in model.layers():
        if layer.name in ("conv4", "dense"):
            assert (layer.weight.dtype, layer.runs_in) == ("float32", "float32")
            assert layer.why_not == "Kept in float, as asked."
            np.testing.assert_array_equal(layer.weight.codes, layer.weight.reference)
        else:
            assert layer.weight.dtype == whole[layer.name].weight.dtype
    reference = converted("fashion-cnn", "float32").predict(case.x[:200])
    better = tensor_error(reference, model.predict(case.x[:200])).sqnr_db
    assert better > tensor_error(reference, converted("fashion-cnn", code).predict(case.x[:200])).sqnr_db


@pytest.mark.parametrize("cell", [cell for cell in techniques(Backend.TFLITE) if cell.available], ids=lambda cell: cell.code)
def test_the_table_knows_which_techniques_keep_layers_in_float(cell):
    """All but training, which imitates a whole integer model."""
    technique = Technique.parse(cell.code)
    if technique.mode is Mode.QAT:
        with pytest.raises(Unsupported, match="not imitated"):
            require_keep_float(Backend.TFLITE, technique)
    else:
        require_keep_float(Backend.TFLITE, technique)


def test_activation_ranges_cover_every_calibration_sample(converted, subject):
    """The library's own default, a moving average, clips."""
    case = subject("fashion-cnn")
    values = converted("fashion-cnn", "float32").activations(case.calibration)
    for layer in converted("fashion-cnn", "static_wi4_ai8").layers():
        params = layer.output.params
        if params is not None:
            highest = (params.qmax - params.zero_point[0]) * params.scale[0]
            assert highest >= values[layer.name].max() - params.scale[0]


def test_a_file_that_is_no_model_is_refused():
    with pytest.raises(ConversionFailed, match="refused"):
        recipes.quantize(b"TFL3 and nothing", Technique.parse("weight_only_wi8"), None, (), quiet)


def test_a_file_is_quantized_without_tensorflow_and_stdout_is_left_alone(converted, tmp_path):
    script = """
import json, sys
from pathlib import Path
import numpy as np
from quantizers.schema import Technique
from quantizers.tflite import recipes
samples = np.random.default_rng(0).standard_normal((4, 28, 28, 1)).astype(np.float32)
file = Path(sys.argv[1]).read_bytes()
sizes = [len(recipes.quantize(file, Technique.parse(code), data, (), lambda fraction, what: None))
         for code, data in (("weight_only_wi4", None), ("static_wi4_ai8", samples))]
print(json.dumps({"sizes": sizes, "heavy": sorted({"tensorflow", "keras", "torch"} & set(sys.modules))}))
"""
    path = converted("mnist-cnn", "float32").path
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["heavy"] == []
    assert all(size < path.stat().st_size / 5 for size in said["sizes"])


def test_constants_that_lie_behind_the_flatbuffer_are_read(tmp_path):
    """Where the file of a model of megabytes has them."""
    import keras

    keras.utils.set_random_seed(0)
    source = keras.Input((256,))
    network = keras.Model(source, keras.layers.Dense(10, name="dense2")(keras.layers.Dense(8192, name="dense1")(source)))
    request = Request(Technique.parse("weight_only_wi8"), {}, None, tmp_path)
    model = TFLiteAdapter().quantize(
        SimpleNamespace(keras_model=lambda: network, info=SimpleNamespace(kind="zoo")), request, quiet
    )
    file = schema.ModelT.InitFromPackedBuf(model.path.read_bytes(), 0)
    assert any(buffer.offset > 1 for buffer in file.buffers)
    for layer in model.layers():
        assert (layer.weight.dtype, layer.weight.params.axis) == ("int8", 0)
        error = tensor_error(layer.weight.reference, dequantize(layer.weight.codes, layer.weight.params))
        assert error.sqnr_db > 35


def test_a_file_that_lacks_layers_of_the_float_one_is_refused(converted, subject):
    small, large = (converted(model_id, "float32").path.read_bytes() for model_id in ("mnist-mlp", "mnist-cnn"))
    kernels = {
        **convert.kernels(subject("mnist-mlp").model.keras_model()),
        **convert.kernels(subject("mnist-cnn").model.keras_model()),
    }
    with pytest.raises(ConversionFailed, match="other layers"):
        describe(small, large, kernels, Technique.parse("float32"))
