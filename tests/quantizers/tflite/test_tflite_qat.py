"""Quantization-aware training: the file computes what was trained, in real integers, and its control had the same budget."""

from dataclasses import replace

import numpy as np
import pytest

from models import datasets
from quantizers.adapter import Arm, Epoch, Training
from quantizers.errors import BadData, Unsupported
from quantizers.schema import Technique
from quantizers.tflite.adapter import TFLiteAdapter

pytestmark = pytest.mark.adapter

BITS = {"qat_wi8_ai8": 8, "qat_wi4_ai8": 4}


def quiet(fraction: float, what: str) -> None:
    """A report that nobody reads."""


@pytest.fixture(scope="module")
def training(subject):
    """The first samples of the training split: enough to learn, few enough to wait for."""

    def take(model_id: str, n: int) -> Training:
        model = subject(model_id).model
        rows = datasets.load(model.info.datasets[0]).split("train").take(n)
        return Training(model.info.preprocess(rows.x), rows.y, subject(model_id).x[:500], subject(model_id).y[:500])

    return take


@pytest.mark.parametrize(
    "model_id",
    ["mnist-mlp", "fashion-cnn", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("mnist-cnn", "fashion-resnet"))],
)
@pytest.mark.parametrize("code", BITS)
def test_the_file_predicts_as_the_trained_network_on_the_whole_test_split(subject, training, model_id, code):
    """In its own arithmetic: the twin is trained for an epoch, converted, and both predict every test sample."""
    import keras

    from quantizers.schema import Mode
    from quantizers.tflite import convert
    from quantizers.tflite.qat import Schooling, predict
    from quantizers.tflite.reader import read
    from quantizers.tflite.runtime import LiteRTSession
    from quantizers.tflite.twin import build

    case, samples = subject(model_id), training(model_id, 640)
    keras.utils.set_random_seed(0)
    twin = build(case.model.keras_model(), dict.fromkeys(case.model.layer_names, BITS[code]))
    twin.calibrate(case.calibration)
    request = request_of(code, None, samples, epochs=1)
    Schooling(request, samples, 1).fit(Arm.QAT, twin, 1, quiet)
    with twin.convertible() as network:
        file = convert.convert(network, Technique(Mode.QAT), {}, None, quiet)
    test = datasets.load(case.model.info.datasets[0]).split("test")
    x = case.model.info.preprocess(test.x)
    session = LiteRTSession(file)
    parts = [x[start : start + 100] for start in range(0, len(x), 100)]
    ours = np.concatenate([session.logits(session.run(session.prepare(part))).argmax(1) for part in parts])
    assert np.mean(ours == predict(twin.network, x).argmax(1)) >= 0.995
    assert {op.weight.dtype for op in read(file)} == {f"int{BITS[code]}"}
    assert {op.input.dtype for op in read(file)} == {"int8"}


def request_of(code, calibration, samples, workdir=None, **options):
    from quantizers.adapter import Request
    from quantizers.capabilities import resolve_options
    from quantizers.schema import Backend

    technique = Technique.parse(code)
    options = resolve_options(Backend.TFLITE, technique, options)
    return Request(technique, options, calibration, workdir, training=samples)


@pytest.fixture(scope="module", params=BITS)
def trained(request, subject, training, tmp_path_factory):
    """A trained fashion-cnn, and the epochs told of while it was trained."""
    case, told = subject("fashion-cnn"), list[Epoch]()
    asked = request_of(
        request.param, case.calibration, training("fashion-cnn", 640), tmp_path_factory.mktemp(request.param), epochs=2
    )
    model = TFLiteAdapter().quantize(case.model, replace(asked, on_epoch=told.append), quiet)
    return request.param, model, told


def test_the_control_is_trained_as_long_and_told_of_as_it_happens(trained):
    _, model, told = trained
    assert tuple(told) == model.training.history
    by_arm = {arm: [epoch.epoch for epoch in told if epoch.arm is arm] for arm in Arm}
    assert by_arm[Arm.QAT] == by_arm[Arm.CONTROL] == [1, 2]
    assert all(0 < epoch.loss < 2 and 0.5 < epoch.accuracy <= 1 for epoch in told)
    assert model.training.seconds > 0


def test_both_files_store_integers_on_the_same_kind_of_grid(trained):
    code, model, _ = trained
    for layer, other in zip(model.layers(), model.training.control.layers(), strict=True):
        assert layer.quantized
        assert layer.weight.dtype == other.weight.dtype == f"int{BITS[code]}"
        assert layer.runs_in == other.runs_in == ("int8" if code == "qat_wi8_ai8" else "int8x4")
        assert layer.weight.params.granularity == other.weight.params.granularity
        assert not np.array_equal(layer.weight.params.scale, other.weight.params.scale)
    assert model.path != model.training.control.path


def test_both_arms_keep_what_the_network_knew(trained, subject):
    _, model, _ = trained
    case = subject("fashion-cnn")
    for one in (model, model.training.control):
        assert np.mean(one.predict(case.x).argmax(1) == case.y) > 0.8


def test_training_without_samples_is_refused(subject, tmp_path):
    case = subject("mnist-mlp")
    with pytest.raises(BadData, match="labelled samples"):
        TFLiteAdapter().quantize(case.model, request_of("qat_wi8_ai8", case.calibration, None, tmp_path), quiet)


def test_a_seed_repeats_both_arms_and_another_gives_others(tmp_path):
    """Of a network with dropout, which draws as it trains, besides the order of the samples."""
    import keras

    from quantizers.tflite.qat import quantization_aware

    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(16, "relu", name="a"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(4, name="b"),
        ]
    )
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 16)).astype(np.float32), rng.integers(0, 4, 200)
    asked = request_of("qat_wi8_ai8", x, Training(x, y, x, y), tmp_path, epochs=1)
    once, again, other = (quantization_aware(network, replace(asked, seed=seed), x, quiet) for seed in (3, 3, 4))
    for layer, repeated in zip(stored(once), stored(again), strict=True):
        np.testing.assert_array_equal(layer.codes, repeated.codes)
        np.testing.assert_array_equal(layer.params.scale, repeated.params.scale)
    assert [epoch.loss for epoch in once.training.history] == [epoch.loss for epoch in again.training.history]
    for layer, differing in zip(stored(once), stored(other), strict=True):
        assert not np.array_equal(layer.params.scale, differing.params.scale)


def stored(model):
    """The weights of both arms' files."""
    return [layer.weight for arm in (model, model.training.control) for layer in arm.layers()]


def test_a_softmax_at_the_end_is_trained_before_it_and_stored_after_it():
    """Its grid is fixed in TFLite at 1/256."""
    import keras

    from quantizers.schema import Mode
    from quantizers.tflite import convert
    from quantizers.tflite.qat import predict
    from quantizers.tflite.runtime import LiteRTSession
    from quantizers.tflite.twin import build

    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((16,)), keras.layers.Dense(8, "relu", name="a"), keras.layers.Dense(4, "softmax", name="b")]
    )
    x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    twin = build(network, {"a": 8, "b": 8})
    twin.calibrate(x)
    with twin.convertible() as convertible:
        file = convert.convert(convertible, Technique(Mode.QAT), {}, None, quiet)
    session = LiteRTSession(file)
    ours, theirs = session.logits(session.run(session.prepare(x))), predict(twin.network, x)
    assert np.abs(ours - theirs).max() <= 1 / 256 + 1e-6
    np.testing.assert_allclose(predict(build(network, None).network, x), predict(network, x), atol=1e-6)


def test_layers_that_training_cannot_imitate_are_refused_by_name():
    import keras

    from quantizers.tflite.twin import build

    source = keras.Input((8, 4))
    lstm = keras.Model(source, keras.layers.LSTM(4, name="memory")(source))
    with pytest.raises(Unsupported, match="memory is a LSTM"):
        build(lstm, {})
    values = keras.layers.BatchNormalization(name="norm")(source)
    with pytest.raises(Unsupported, match="norm follows no layer"):
        build(keras.Model(source, values), {})
