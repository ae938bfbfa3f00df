"""Quantization-aware training: what it stores is what it trained with, and its control had the same budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pt2_reader import sqnr_db
from torch.nn import functional
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e
from training_samples import training_of

from models import zoo
from quantizers.adapter import Arm, Request
from quantizers.capabilities import resolve_options
from quantizers.errors import BadData
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.pytorch.program import export, fold
from quantizers.pytorch.ptq import Source
from quantizers.pytorch.qat import observe, prepare
from quantizers.pytorch.rewrite import pack_narrow
from quantizers.schema import Backend, Execution, Technique

pytestmark = pytest.mark.adapter

MODEL = "fashion-cnn"


def request_of(code, tmp_path, **changes):
    technique = Technique.parse(code)
    return Request(technique, resolve_options(Backend.PYTORCH, technique, {"epochs": 1}), None, tmp_path, **changes)


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")  # by torch, of what is not asked for
@pytest.mark.parametrize("code", ["qat_wi8_ai8", "qat_wi4_ai8"])
def test_fake_quantization_computes_what_the_converted_program_computes(tmp_path, code) -> None:
    model = zoo.load(MODEL)
    samples = training_of(model, 128)
    x = torch.from_numpy(np.ascontiguousarray(samples.x.transpose(0, 3, 1, 2)))
    source = Source(fold(export(model.torch_module(), x[:2])), x[:2], x)
    trainee, _ = prepare(source, request_of(code, tmp_path))
    optimizer = torch.optim.AdamW(trainee.parameters(), 1e-3)
    for start in range(0, 128, 32):
        loss = functional.cross_entropy(trainee(x[start : start + 32]), torch.from_numpy(samples.y[start : start + 32]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    observe(trainee, activations=False, weights=False)
    # oneDNN's convolutions sum in another order in another memory layout, which moves a value at a tie to the next code.
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        trained = trainee(x).numpy()
        converted = pack_narrow(convert_pt2e(trainee))(x).numpy()
    assert sqnr_db(trained, converted) > 100


@pytest.mark.parametrize(("code", "highest", "stored"), [("qat_wi8_ai8", 127, "int8"), ("qat_wi4_ai8", 7, "int4")])
def test_weights_are_stored_on_the_grid_of_the_trained_weights(quantize, code, highest, stored) -> None:
    case = quantize(MODEL, code, epochs=2)
    for layer in case.quantized.layers():
        weight = layer.weight
        largest = np.abs(weight.reference.reshape(len(weight.reference), -1)).max(axis=1)
        assert (weight.dtype, weight.params.qmin, weight.params.qmax) == (stored, -highest, highest)
        np.testing.assert_allclose(weight.params.scale, largest / highest, rtol=1e-5)
        scale = weight.params.scale.reshape(-1, *[1] * (weight.codes.ndim - 1))
        assert (np.abs(weight.codes * scale - weight.reference) <= scale * 0.5001).all()


def test_eight_bits_run_in_int8_and_four_are_packed(quantize) -> None:
    eight, four = (quantize(MODEL, code, epochs=2).quantized for code in ("qat_wi8_ai8", "qat_wi4_ai8"))
    static = quantize(MODEL, "static_wi8_ai8").quantized
    assert [layer.runs_in for layer in eight.layers()] == [layer.runs_in for layer in static.layers()]
    assert eight.execution is static.execution
    assert four.execution is Execution.SIMULATED
    weights = sum(layer.weight.codes.size for layer in four.layers())
    assert eight.path.stat().st_size - four.path.stat().st_size > 0.4 * weights


def test_both_arms_train_as_long_and_are_heard_while_they_do(quantize) -> None:
    case = quantize(MODEL, "qat_wi4_ai8", epochs=2)
    trained = case.quantized.training
    arms = [[epoch.epoch for epoch in trained.history if epoch.arm is arm] for arm in (Arm.QAT, Arm.CONTROL)]
    assert arms == [[1, 2], [1, 2]]
    assert tuple(case.heard) == trained.history
    assert all(0 < epoch.accuracy <= 1 and epoch.loss > 0 for epoch in trained.history)
    assert trained.seconds >= sum(epoch.seconds for epoch in trained.history if epoch.epoch == 2)


def test_the_control_is_a_float_model_trained_alike_and_quantized_without_training(quantize) -> None:
    case = quantize(MODEL, "qat_wi4_ai8", epochs=2)
    control, untrained = case.quantized.training.control, quantize(MODEL, "static_wi4_ai8").quantized
    assert control.training is None
    for own, trained, before in zip(control.layers(), case.quantized.layers(), untrained.layers(), strict=True):
        assert (own.weight.dtype, own.weight.params.bits) == (before.weight.dtype, before.weight.params.bits)
        assert not np.array_equal(own.weight.reference, before.weight.reference)
        assert not np.array_equal(own.weight.reference, trained.weight.reference)
    agreement = (control.predict(case.test).argmax(1) == untrained.predict(case.test).argmax(1)).mean()
    assert agreement > 0.9


def test_the_same_seed_trains_the_same_model(quantize, tmp_path) -> None:
    case = quantize("mnist-mlp", "qat_wi8_ai8", epochs=1)
    technique = case.technique
    request = Request(technique, case.options, case.calibration, tmp_path, training=training_of(case.float_model))
    again = PyTorchAdapter().quantize(case.float_model, request, lambda fraction, words: None)
    for one, other in zip(case.quantized.layers(), again.layers(), strict=True):
        np.testing.assert_array_equal(one.weight.codes, other.weight.codes)


def test_without_samples_to_train_on_it_is_refused(tmp_path) -> None:
    samples = np.linspace(0, 1, 2 * 28 * 28, dtype=np.float32).reshape(2, 28, 28, 1)
    technique = Technique.parse("qat_wi8_ai8")
    request = Request(technique, resolve_options(Backend.PYTORCH, technique, {}), samples, tmp_path)
    with pytest.raises(BadData, match="labelled samples"):
        PyTorchAdapter().quantize(zoo.load("mnist-mlp"), request, lambda fraction, words: None)
    assert not list(tmp_path.iterdir())
