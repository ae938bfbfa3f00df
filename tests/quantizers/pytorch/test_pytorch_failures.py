"""What can go wrong, and what is said then."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from models import zoo
from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.errors import BadData, NothingQuantized, UnknownName
from quantizers.pytorch import lowering
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.pytorch.annotate import KEPT_BY_CHOICE
from quantizers.schema import Backend, Execution, Technique

pytestmark = pytest.mark.adapter

SAMPLES = np.linspace(0, 1, 4 * 28 * 28, dtype=np.float32).reshape(4, 28, 28, 1)


def run(model, code, tmp_path, calibration=SAMPLES, keep_float=()):
    technique = Technique.parse(code)
    request = Request(technique, resolve_options(Backend.PYTORCH, technique, {}), calibration, tmp_path, keep_float)
    return PyTorchAdapter().quantize(model, request, lambda fraction, words: None)


def own(module: nn.Module) -> SimpleNamespace:
    """A float model around any module on 28 × 28 images."""
    return SimpleNamespace(info=SimpleNamespace(input_shape=(28, 28, 1)), torch_module=module.eval)


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        (None, "there are none"),
        (SAMPLES[:0], "there are none"),
        (np.full_like(SAMPLES, np.nan), "NaN"),
        (np.where(np.arange(4).reshape(4, 1, 1, 1) == 2, np.inf, SAMPLES).astype(np.float32), "infinity"),
        (SAMPLES[:, :14], r"shape \(14, 28, 1\)"),
    ],
)
def test_unusable_calibration_samples_are_refused(tmp_path, calibration, words) -> None:
    with pytest.raises(BadData, match=words):
        run(zoo.load("mnist-mlp"), "static_wi8_ai8", tmp_path, calibration)
    assert not list(tmp_path.iterdir())


def test_a_layer_can_be_kept_float(quantize) -> None:
    case = quantize("fashion-cnn", "static_wi8_ai8", ("conv2",))
    kept = {layer.name: layer for layer in case.quantized.layers()}.pop("conv2")
    others = [layer for layer in case.quantized.layers() if layer.name != "conv2"]
    assert (kept.quantized, kept.why_not, kept.runs_in) == (False, KEPT_BY_CHOICE, "float32")
    assert (kept.weight.dtype, kept.weight.params, kept.inputs[0].dtype) == ("float32", None, "float32")
    np.testing.assert_array_equal(kept.weight.codes, kept.weight.reference)
    assert all(layer.quantized for layer in others)
    assert case.quantized.execution is Execution.NATIVE
    session = PyTorchAdapter().open(case.quantized.path, case.options, threads=1)
    logits = session.run(session.prepare(case.test[:32]))
    assert (logits.argmax(1) == case.quantized.predict(case.test[:32]).argmax(1)).all()


def test_a_layer_to_keep_that_does_not_exist_is_named(tmp_path) -> None:
    with pytest.raises(UnknownName, match="dense9") as caught:
        run(zoo.load("mnist-mlp"), "weight_only_wi8", tmp_path, keep_float=("dense9",))
    assert "dense" in caught.value.hint


def test_keeping_every_layer_float_quantizes_nothing(tmp_path) -> None:
    with pytest.raises(NothingQuantized, match=KEPT_BY_CHOICE):
        run(zoo.load("mnist-mlp"), "static_wi8_ai8", tmp_path, keep_float=("dense1", "dense2"))


def test_dynamic_on_convolutions_alone_quantizes_nothing(tmp_path) -> None:
    with pytest.raises(NothingQuantized, match="only dense layers"):
        run(own(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())), "dynamic_wi8", tmp_path)


def test_a_model_without_layers_quantizes_nothing(tmp_path) -> None:
    with pytest.raises(NothingQuantized, match="no convolution or dense layer"):
        run(own(nn.Flatten()), "static_wi8_ai8", tmp_path)


def test_when_lowering_fails_execution_is_simulated_with_the_reason(tmp_path, monkeypatch) -> None:
    def broken(program, sample):
        raise AttributeError("freezing_passes has moved")

    monkeypatch.setattr(lowering, "lower", broken)
    quantized = run(zoo.load("mnist-mlp"), "static_wi8_ai8", tmp_path)
    assert quantized.execution is Execution.SIMULATED
    assert "freezing_passes has moved" in quantized.execution_why
    assert {layer.runs_in for layer in quantized.layers()} == {"float32"}


def test_kernels_that_disagree_with_the_model_are_not_called_native(tmp_path, monkeypatch) -> None:
    true = lowering.lower

    def saturating(program, sample):
        lowered = true(program, sample)
        return lowering.Lowered(lambda x: lowered.run(x).clamp(-1, 1), lowered.int8)

    monkeypatch.setattr(lowering, "lower", saturating)
    quantized = run(zoo.load("mnist-mlp"), "static_wi8_ai8", tmp_path)
    assert quantized.execution is Execution.SIMULATED
    assert "dB only" in quantized.execution_why


def test_a_rounding_that_ties_in_one_sample_speaks_against_no_kernel(tmp_path, monkeypatch) -> None:
    true = lowering.lower

    def tying(program, sample):
        lowered = true(program, sample)
        first = (torch.arange(len(sample)) == 0)[:, None]
        return lowering.Lowered(lambda x: torch.where(first, 0, lowered.run(x)), lowered.int8)

    monkeypatch.setattr(lowering, "lower", tying)
    assert run(zoo.load("mnist-mlp"), "static_wi8_ai8", tmp_path).execution is Execution.NATIVE


class _Amplifier(nn.Module):
    """Turns the last bits of a dense layer's output into another answer."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(28 * 28, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(1e7 * self.dense(x.flatten(1)))


def test_a_model_that_disagrees_with_itself_as_much_speaks_against_no_kernel(tmp_path, monkeypatch) -> None:
    agreements = []
    true = lowering._agreement
    monkeypatch.setattr(lowering, "_agreement", lambda *pair: agreements.append(true(*pair)) or agreements[-1])
    torch.manual_seed(0)
    assert run(own(_Amplifier()), "static_wi8_ai8", tmp_path).execution is Execution.NATIVE
    assert agreements[0] < lowering.AGREEMENT_DB
    assert agreements[0] > agreements[1] - lowering.LEEWAY_DB
