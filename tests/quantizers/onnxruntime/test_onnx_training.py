"""Quantization-aware training ends in a file of this runtime with PyTorch's integers, and so does its control."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from models import catalogue, datasets, zoo
from models.float_model import Kind
from quantizers.adapter import Epoch, Request, Training
from quantizers.capabilities import resolve_options
from quantizers.numerics import tensor_error
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
from quantizers.onnxruntime.model import OnnxModel
from quantizers.schema import Backend, Technique

pytestmark = pytest.mark.adapter


@pytest.fixture(scope="module", params=["qat_wi8_ai8", "qat_wi4_ai8"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxModel, list[Epoch]]:
    model, data = zoo.load("mnist-cnn"), datasets.load("mnist-5k")
    train, held_out = data.split("train"), data.split("calibration")
    x, evaluation = model.info.preprocess(train.x[:600]), model.info.preprocess(held_out.x[:200])
    technique, heard = Technique.parse(request.param), []
    asked = Request(
        technique,
        resolve_options(Backend.ONNXRUNTIME, technique, {"epochs": "1"}),
        evaluation,
        tmp_path_factory.mktemp("trained"),
        training=Training(x, train.y[:600], evaluation, held_out.y[:200]),
        on_epoch=heard.append,
    )
    return OnnxRuntimeAdapter().quantize(model, asked, lambda fraction, words: None), heard


def images() -> tuple[np.ndarray, np.ndarray]:
    test = datasets.load("mnist-5k").split("test")
    return zoo.load("mnist-cnn").info.preprocess(test.x), test.y


def test_both_arms_run_here_and_classify(trained: tuple[OnnxModel, list[Epoch]]) -> None:
    model, heard = trained
    assert model.training is not None
    assert [epoch.arm for epoch in heard] == [epoch.arm for epoch in model.training.history] == ["qat", "control"]
    x, y = images()
    assert isinstance(model.training.control, OnnxModel)
    assert model.training.control.path != model.path
    for arm in (model, model.training.control):
        logits = arm.predict(x)
        assert (logits.argmax(axis=1) == y).mean() > 0.9
        session = onnxruntime.InferenceSession(arm.path, providers=["CPUExecutionProvider"])
        plain = session.run(None, {session.get_inputs()[0].name: x[:100].transpose(0, 3, 1, 2)})[0]
        np.testing.assert_allclose(logits[:100], plain, atol=1e-4)


def test_the_file_holds_no_more_than_the_model(trained: tuple[OnnxModel, list[Epoch]]) -> None:
    model, _ = trained
    assert model.path.stat().st_size < 0.4 * len(zoo.load("mnist-cnn").onnx_model().SerializeToString())


def test_layers_are_what_a_plain_reading_of_the_file_finds(trained: tuple[OnnxModel, list[Epoch]]) -> None:
    model, _ = trained
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load(model.path).graph.initializer}
    assert [layer.name for layer in model.layers()] == ["conv1", "dense"]
    for layer in model.layers():
        assert layer.quantized
        assert layer.weight.params is not None
        np.testing.assert_array_equal(layer.weight.codes, stored[f"{layer.name}.weight"].astype(int))
        np.testing.assert_array_equal(
            layer.weight.params.scale.astype(np.float32), stored[f"{layer.name}.weight_scale"].ravel()
        )
        scale = layer.weight.params.scale.reshape(-1, *[1] * (layer.weight.codes.ndim - 1))
        error = layer.weight.codes * scale - layer.weight.reference
        assert np.abs(error).max() <= 0.51 * scale.max()  # of the weights as training left them


def test_residual_additions_compute_with_integers_and_stay_near_what_was_trained(tmp_path: Path) -> None:
    model, data = zoo.load("fashion-resnet"), datasets.load("fashion-mnist")
    train, test = data.split("train"), data.split("test")
    x, y = model.info.preprocess(train.x[:128]), train.y[:128]
    technique = Technique.parse("qat_wi8_ai8")
    options = resolve_options(Backend.ONNXRUNTIME, technique, {"epochs": "1"})
    asked = Request(technique, options, x, tmp_path, training=Training(x, y, x, y))
    trained = OnnxRuntimeAdapter().quantize(model, asked, lambda fraction, words: None)
    assert {layer.name: layer.runs_in for layer in trained.layers()} == dict.fromkeys(model.layer_names, "int8")
    assert "rounded to uint8" in trained.steps[-1].outcome
    added = [node for node in onnx.load(trained.path).graph.node if node.name.endswith("_rounded_DequantizeLinear")]
    assert len(added) == trained.steps[-1].outcome.count("block")
    # The file as PyTorch left it: what each addition reads is the convolution's float output again.
    plain = onnx.load(trained.path)
    for node in plain.graph.node:
        node.input[:] = [name.removesuffix("_rounded") for name in node.input]
    images = model.info.preprocess(test.x[:300])
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    before = session.run(None, {session.get_inputs()[0].name: images.transpose(0, 3, 1, 2)})[0]
    after = trained.predict(images)
    assert tensor_error(before, after).sqnr_db > 20
    assert (before.argmax(1) == after.argmax(1)).mean() > 0.97


def test_a_file_without_its_network_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models import mine

    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path))
    info = mine.add(zoo.load("mnist-mlp").onnx_model().SerializeToString(), "m.onnx")
    assert info.kind is Kind.ONNX
    refusal = catalogue.refusal(info, Backend.ONNXRUNTIME, Technique.parse("qat_wi8_ai8"))
    assert refusal is not None
    assert "without its code" in refusal.message


@pytest.mark.parametrize("code", ["weight_only_wi4_g32", "weight_only_wi2_g32"])
def test_a_fitted_range_has_a_smaller_error_than_the_whole_one(code: str, tmp_path: Path) -> None:
    technique, energies = Technique.parse(code), {}
    for fit in ("minmax", "mse", "hqq"):
        (tmp_path / fit).mkdir()
        options = resolve_options(Backend.ONNXRUNTIME, technique, {"weight_range": fit})
        request = Request(technique, options, None, tmp_path / fit)
        layer = OnnxRuntimeAdapter().quantize(zoo.load("mnist-mlp"), request, lambda fraction, words: None).layers()[0]
        assert layer.op == "MatMulNBits"
        params = layer.weight.params
        assert params is not None
        groups = -(-layer.weight.codes.shape[1] // 32)
        along = [np.repeat(part.reshape(-1, groups), 32, axis=1)[:, :784] for part in (params.scale, params.zero_point)]
        error = along[0] * (layer.weight.codes.astype(float) - along[1]) - layer.weight.reference
        energies[fit] = float((error**2).sum()), float((np.abs(error) ** 0.7).sum())
    assert energies["mse"][0] < energies["minmax"][0]
    assert energies["hqq"][1] < energies["minmax"][1]
