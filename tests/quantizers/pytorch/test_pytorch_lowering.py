"""Lowering on small modules: everything between two int8 layers stays in integers, whatever stands between them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pt2_reader import sqnr_db
from torch import nn
from torch.nn import functional

from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.pytorch.describe import NO_3D, REARRANGED
from quantizers.schema import Backend, Technique

pytestmark = pytest.mark.adapter


class _Between(nn.Module):
    """ReLU6, uneven zero padding, max pooling with padding, two residual additions (one in place), flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3)
        self.conv2 = nn.Conv2d(16, 16, 3, stride=2)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv4 = nn.Conv2d(16, 16, 1)
        self.conv5 = nn.Conv2d(16, 16, 1)
        self.shortcut = nn.Conv2d(16, 16, 1)
        self.dense = nn.Linear(16 * 9, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.conv1(x))
        x = functional.relu6(self.conv2(functional.pad(x, (0, 1, 0, 1))))
        x = functional.relu(self.conv4(functional.relu(self.conv3(x))) + x)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        total = self.conv5(x)
        total += self.shortcut(x)
        x = functional.relu(total, inplace=True)
        return self.dense(functional.max_pool2d(x, 2).flatten(1))


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    torch.manual_seed(0)
    module = _Between()
    for parameter in module.parameters():
        parameter.data.mul_(3)  # so that ReLU6 has something to cut
    model = SimpleNamespace(info=SimpleNamespace(input_shape=(26, 26, 3)), torch_module=module.eval)
    technique = Technique.parse("static_wi8_ai8")
    options = resolve_options(Backend.PYTORCH, technique, {})
    samples = np.random.default_rng(0).standard_normal((32, 26, 26, 3), dtype=np.float32)
    request = Request(technique, options, samples, tmp_path_factory.mktemp("between"))
    return module, samples, PyTorchAdapter().quantize(model, request, lambda fraction, words: None)


def test_between_int8_layers_nothing_turns_back_to_float(artefact) -> None:
    _, samples, quantized = artefact
    assert [layer.runs_in for layer in quantized.layers()] == ["int8"] * 7
    session = PyTorchAdapter().open(quantized.path, {}, threads=1)
    prepared = session.prepare(samples[:2])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        session.run(prepared)
    ran = Counter(event.name for event in profile.events())
    assert ran["aten::round"] == 1  # the input is quantized, and nothing after it
    assert not [name for name in ran if name.startswith("quantized_decomposed::")]
    assert ran["onednn::qconv2d_pointwise"] == 2
    assert ran["aten::hardtanh"] + ran["aten::clamp_min"] + ran["aten::relu"] == 0


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_integers_give_what_the_qdq_program_gives(artefact, batch) -> None:
    module, samples, quantized = artefact
    session = PyTorchAdapter().open(quantized.path, {}, threads=1)
    logits = session.run(session.prepare(samples[:batch]))
    expected = quantized.predict(samples[:batch])
    assert sqnr_db(expected, logits) > 40
    with torch.no_grad():
        float_logits = module(torch.from_numpy(samples[:batch].transpose(0, 3, 1, 2).copy())).numpy()
    assert sqnr_db(float_logits, logits) > 20


def test_padding_and_pooling_keep_the_grid_of_what_they_read(artefact) -> None:
    _, _, quantized = artefact
    layers = {layer.name: layer for layer in quantized.layers()}
    for before, after in (("conv1", "conv2"), ("conv2", "conv3"), ("conv3", "conv4")):
        written, read = layers[before].output.params, layers[after].inputs[0].params
        assert (written.scale, written.zero_point) == (read.scale, read.zero_point)


class _Unfused(nn.Module):
    """A dense layer and a 3-D convolution that PyTorch's passes leave alone, among others that they fuse."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(9, 8)
        self.across = nn.Linear(9, 8)
        self.volume = nn.Conv3d(1, 2, 1)
        self.last = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.across(self.first(x.flatten(1, 2)).relu().transpose(1, 2)).relu()
        volume = self.volume(x.reshape(-1, 1, 4, 4, 4)).relu()
        return self.last(x.mean(1) + volume.mean((1, 2, 3, 4), keepdim=False).unsqueeze(1))


def test_layers_that_no_kernel_takes_say_why(tmp_path) -> None:
    torch.manual_seed(0)
    model = SimpleNamespace(info=SimpleNamespace(input_shape=(9, 9, 1)), torch_module=_Unfused().eval)
    technique = Technique.parse("static_wi8_ai8")
    samples = np.random.default_rng(0).standard_normal((16, 9, 9, 1), dtype=np.float32)
    request = Request(technique, resolve_options(Backend.PYTORCH, technique, {}), samples, tmp_path)
    layers = PyTorchAdapter().quantize(model, request, lambda fraction, words: None).layers()
    assert {layer.name: layer.why_not for layer in layers} == {
        "first": None,
        "across": REARRANGED,
        "volume": NO_3D,
        "last": None,
    }
    assert [layer.runs_in for layer in layers] == ["int8", "float32", "float32", "int8"]
