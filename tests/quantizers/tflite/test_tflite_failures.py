"""What must not pass silently: unusable samples, models the converter refuses, and conversions that quantize nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from quantizers.errors import BadData, ConversionFailed, NothingQuantized, Unsupported
from quantizers.schema import Mode, Technique
from quantizers.tflite import convert
from quantizers.tflite.adapter import TFLiteAdapter
from quantizers.tflite.describe import describe
from quantizers.tflite.model import TFLiteModel, check

pytestmark = pytest.mark.adapter

RNG = np.random.default_rng(0)
SAMPLES = RNG.standard_normal((20, 32)).astype(np.float32)


@dataclass(frozen=True)
class Float:
    """A float model of the test's own."""

    keras_model: Callable[[], Any]
    info: Any = field(default_factory=lambda: SimpleNamespace(kind="zoo"))


def quiet(fraction: float, what: str) -> None:
    """A report that nobody reads."""


def dense(*units: int) -> Any:
    """32 inputs and one dense layer, "dense1", "dense2", …, for each of `units`."""
    import keras

    keras.utils.set_random_seed(0)
    values = source = keras.Input((32,))
    for number, width in enumerate(units, start=1):
        values = keras.layers.Dense(width, name=f"dense{number}")(values)
    return keras.Model(source, values)


def with_nan(position: int) -> Any:
    """A dense layer with NaN in its kernel (0) or its bias (1)."""
    network = dense(40)
    weights = network.layers[-1].get_weights()
    weights[position].flat[0] = np.nan
    network.layers[-1].set_weights(weights)
    return network


@pytest.mark.parametrize("code", ["static_wi8_ai8", "static_wi8_ai16"])
@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (None, "there are none"),
        (SAMPLES[:0], "there are none"),
        (np.full_like(SAMPLES, np.nan), "20 of 20"),
        (np.where(np.arange(20)[:, None] == 3, np.float32("inf"), SAMPLES), "1 of 20"),
        (SAMPLES[:, :16], r"\(16,\); the model takes \(32,\)"),
        (np.zeros_like(SAMPLES), "no range"),
        (SAMPLES.astype(str), "of the type <U"),
        (SAMPLES.astype(object), "of the type object"),
        (SAMPLES.astype(np.complex64), "of the type complex64"),
    ],
    ids=["none", "empty", "all-nan", "one-infinite", "shape", "constant", "words", "objects", "complex"],
)
def test_unusable_calibration_samples_are_refused(request_for, code, samples, said):
    with pytest.raises(BadData, match=said):
        TFLiteAdapter().quantize(Float(lambda: dense(40)), request_for(code, samples), quiet)


@pytest.mark.parametrize("samples", [np.full_like(SAMPLES, np.nan), SAMPLES[:0]], ids=["all-nan", "empty"])
def test_a_float_model_returned_in_silence_is_found_out(tmp_path, samples):
    """The converter itself, given such samples, gives a float model back without an error."""
    network, technique = dense(40), Technique.parse("static_wi8_ai8")
    float_file = convert.convert(network, Technique(Mode.FLOAT32), {}, None, quiet)
    file = convert.convert(network, technique, {"io": "int8", "per_channel": True}, samples, quiet)
    path = tmp_path / "model.tflite"
    path.write_bytes(file)
    model = TFLiteModel(path, describe(file, float_file, convert.kernels(network), technique))
    assert [layer.weight.dtype for layer in model.layers()] == ["float32"]
    with pytest.raises(NothingQuantized, match="left every layer in float"):
        check(model, technique, float_file)


def test_dynamic_range_of_a_model_with_only_small_layers_says_why_nothing_happened(request_for):
    with pytest.raises(NothingQuantized) as caught:
        TFLiteAdapter().quantize(Float(lambda: dense(8, 4)), request_for("dynamic_wi8"), quiet)
    assert "dense1: 256 weights" in caught.value.hint
    assert "1,024" in caught.value.hint


def test_layers_kept_in_float_are_refused_not_ignored(request_for):
    with pytest.raises(Unsupported, match="not imitated"):
        TFLiteAdapter().quantize(Float(lambda: dense(40)), request_for("qat_wi8_ai8", keep_float=("dense1",)), quiet)


def test_an_impossible_technique_is_refused_with_its_reason(request_for):
    with pytest.raises(Unsupported, match="no bfloat16 kernels"):
        TFLiteAdapter().quantize(Float(lambda: dense(40)), request_for("bfloat16"), quiet)


@pytest.mark.parametrize(("position", "said"), [(0, "dense1 hold NaN"), (1, "computes NaN")], ids=["kernel", "bias"])
def test_weights_that_are_not_numbers_are_refused(request_for, position, said):
    with pytest.raises(ConversionFailed, match=said):
        TFLiteAdapter().quantize(Float(lambda: with_nan(position)), request_for("float32"), quiet)


def test_a_model_the_converter_refuses_is_an_error_with_the_converters_words(request_for):
    import keras
    import tensorflow as tf

    class Cholesky(keras.layers.Layer):
        def call(self, values):
            return tf.linalg.cholesky(values)

    def network():
        source = keras.Input((4, 4))
        return keras.Model(source, Cholesky()(keras.layers.Dense(4, name="dense1")(source)))

    with pytest.raises(ConversionFailed, match="converter refused the model: "):
        TFLiteAdapter().quantize(Float(network), request_for("float32"), quiet)


def test_a_model_without_a_weighted_layer_is_refused(request_for):
    import keras

    def network():
        source = keras.Input((32,))
        return keras.Model(source, keras.layers.ReLU()(source))

    with pytest.raises(ConversionFailed, match="no convolution and no dense layer"):
        TFLiteAdapter().quantize(Float(network), request_for("float32"), quiet)


def test_logits_unlike_those_of_the_float_model_are_found_out(request_for):
    technique = Technique.parse("weight_only_wi4")
    model = TFLiteAdapter().quantize(Float(lambda: dense(40)), request_for(technique.code), quiet)
    small = dense(40)
    small.layers[-1].set_weights([values / 100 for values in small.layers[-1].get_weights()])
    with pytest.raises(ConversionFailed, match="nothing like the float one"):
        check(model, technique, convert.convert(small, Technique(Mode.FLOAT32), {}, None, quiet))


CODES = ["float32", "dynamic_wi8", "static_wi8_ai8", "static_wi8_ai16", "float16", "static_wi4_ai8", "weight_only_wi4"]


@pytest.mark.parametrize("code", CODES)
def test_layers_with_equal_weights_keep_their_own_names(request_for, code):
    """The converter stores equal constants once, under the name of the first layer."""

    def network():
        model = dense(32, 32, 32)
        for name in ("dense2", "dense3"):
            model.get_layer(name).set_weights(model.get_layer("dense1").get_weights())
        return model

    samples = SAMPLES if code.startswith("static") else None
    model = TFLiteAdapter().quantize(Float(network), request_for(code, samples), quiet)
    assert [layer.name for layer in model.layers()] == ["dense1", "dense2", "dense3"]


def test_progress_grows_and_counts_the_samples(request_for):
    seen: list[tuple[float, str]] = []
    report = lambda fraction, what: seen.append((fraction, what))  # noqa: E731
    TFLiteAdapter().quantize(Float(lambda: dense(40)), request_for("static_wi8_ai8", SAMPLES), report)
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] < 1
    assert "Calibrating: sample 20 of 20" in [what for _, what in seen]
