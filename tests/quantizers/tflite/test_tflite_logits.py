"""Files that end in a softmax are compared by what it reads, which int8 keeps, and its own grid of 1/256 loses."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.numerics import tensor_error
from quantizers.schema import Backend, Technique
from quantizers.signature import Input, Signature
from quantizers.tflite.adapter import TFLiteAdapter
from quantizers.tflite.logits import without_softmax
from quantizers.tflite.model import TFLiteModel

pytestmark = pytest.mark.adapter

SHAPE = (8, 8, 1)


@dataclass(frozen=True)
class Case:
    network: Any
    x: np.ndarray
    logits: np.ndarray
    file: Path


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    """A network that is nearly certain of most of its answers, and its float file."""
    import keras

    from quantizers.schema import Mode
    from quantizers.tflite.convert import convert

    keras.utils.set_random_seed(0)
    source = keras.Input(SHAPE)
    hidden = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu", name="conv")(source))
    dense = keras.layers.Dense(6, name="dense", kernel_initializer=keras.initializers.RandomNormal(stddev=1.0))(hidden)
    network = keras.Model(source, keras.layers.Softmax(name="probabilities")(dense))
    x = np.random.default_rng(0).standard_normal((64, *SHAPE)).astype(np.float32)
    path = tmp_path_factory.mktemp("float") / "model.tflite"
    path.write_bytes(convert(network, Technique(Mode.FLOAT32), {}, None, lambda *_: None))
    return Case(network, x, np.asarray(keras.Model(source, dense)(x)), path)


def quantized(case: Case, code: str, workdir: Path, **given: Any) -> TFLiteModel:
    signature = Signature((Input("input", "float32", (1, *SHAPE)),))
    model = SimpleNamespace(info=SimpleNamespace(kind="tflite", signature=signature), tflite_file=lambda: case.file)
    technique = Technique.parse(code)
    options = resolve_options(Backend.TFLITE, technique, given)
    samples = case.x if technique.needs_calibration else None
    return TFLiteAdapter().quantize(model, Request(technique, options, samples, workdir), lambda *_: None)


def probabilities(path: Path, x: np.ndarray) -> np.ndarray:
    """The whole file's answer, one sample at a time, by the plain interpreter."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for sample in x:
        scale, zero = source["quantization"]
        codes = sample if scale == 0 else np.clip(np.rint(sample / scale) + zero, -128, 127)
        interpreter.set_tensor(source["index"], codes[None].astype(source["dtype"]))
        interpreter.invoke()
        scale, zero = result["quantization"]
        values = interpreter.get_tensor(result["index"])[0].astype(np.float32)
        rows.append(values if scale == 0 else (values - zero) * scale)
    return np.array(rows)


def test_a_float_file_answers_with_the_networks_logits(case, tmp_path):
    model = quantized(case, "float32", tmp_path)
    np.testing.assert_allclose(model.predict(case.x), case.logits, rtol=1e-4, atol=1e-4)
    (step,) = model.steps
    assert "1/256" in step.outcome


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_int8_keeps_in_its_logits_what_its_softmax_loses(case, tmp_path, io):
    model = quantized(case, "static_wi8_ai8", tmp_path, io=io)
    logits, stored = model.predict(case.x), probabilities(model.path, case.x)
    assert (stored == 0).mean() > 0.3
    assert tensor_error(case.logits, logits).sqnr_db > 25
    certain = (stored == stored.max(axis=1, keepdims=True)).sum(axis=1) == 1  # elsewhere two classes share one code
    assert (logits.argmax(1) == stored.argmax(1))[certain].all()
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(shifted / shifted.sum(axis=1, keepdims=True), stored, atol=1.5 / 256)


def test_the_artefact_and_its_latency_are_of_the_whole_file(case, tmp_path):
    model = quantized(case, "static_wi8_ai8", tmp_path)
    session = TFLiteAdapter().open(model.path, {}, 1)
    output = session.logits(session.run(session.prepare(case.x[:1])))
    assert np.allclose(output.sum(), 1, atol=6 / 256)
    np.testing.assert_array_equal(output, probabilities(model.path, case.x[:1]).astype(np.float32))


def test_a_file_without_a_softmax_at_its_end_is_left_alone(case, converted):
    content = converted("mnist-mlp", "float32").path.read_bytes()
    assert without_softmax(content) is None
    assert list(converted("mnist-mlp", "float32").steps) == []
    before = without_softmax(case.file.read_bytes())
    assert before is not None
    assert without_softmax(before) is None
