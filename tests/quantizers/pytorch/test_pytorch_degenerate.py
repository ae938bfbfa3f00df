"""Models and samples at the edge of what can be quantized: it works, or it says why not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.errors import BadData
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.schema import Backend, Technique

pytestmark = pytest.mark.adapter

ALL_IMPROVEMENTS = {"equalize": True, "rounding": "learned", "bias_correction": True}
CODES = [
    ("static_wi8_ai8", {}),
    ("static_wi4_ai8", {"weight_range": "hqq"}),
    ("static_wi4_ai8", ALL_IMPROVEMENTS),
    ("static_wi4_ai8", {"rounding": "compensated"}),
    ("weight_only_wi2_g32", {"weight_range": "mse"}),
    ("binary", {}),
]


def run(module, shape, code, tmp_path, options=None):
    technique = Technique.parse(code)
    complete = resolve_options(Backend.PYTORCH, technique, options or {})
    samples = np.random.default_rng(0).standard_normal((16, *shape)).astype(np.float32)
    model = SimpleNamespace(info=SimpleNamespace(input_shape=shape), torch_module=module.eval)
    quantized = PyTorchAdapter().quantize(model, Request(technique, complete, samples, tmp_path), lambda *_: None)
    return quantized, samples


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1, bias=False), nn.Flatten(), nn.Linear(27, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("code", ["static_wi8_ai8", "weight_only_wi4", "float16", "float32"])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, code, value) -> None:
    module = network()
    module[2].weight.data[1, 2] = value
    with pytest.raises(BadData, match="weight of 2 holds NaN or infinity"):
        run(module, (5, 5, 1), code, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("code", "options"), CODES)
def test_channels_of_zeros_and_dead_activations_stay_exact(tmp_path, code, options) -> None:
    module = network()
    module[0].weight.data[1] = 0
    module[0].bias.data[:] = torch.tensor([0.1, -1.0, -50.0, 0.2])  # the second and the third channel are never positive
    module[4].weight.data[3] = 0
    quantized, samples = run(module, (5, 5, 1), code, tmp_path, options)
    assert all(layer.quantized for layer in quantized.layers())
    for layer in quantized.layers():
        assert np.isfinite(layer.weight.params.scale).all()
        assert (layer.weight.params.scale > 0).all()
    logits = quantized.predict(samples)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[:, 3], module[4].bias.data[3].item(), rtol=1e-3)


@pytest.mark.parametrize(("code", "options"), CODES)
def test_constant_activations_survive(tmp_path, code, options) -> None:
    module = network()
    module[0].weight.data[:] = 0
    module[0].bias.data[:] = 0.5
    quantized, samples = run(module, (5, 5, 1), code, tmp_path, options)
    logits = quantized.predict(samples)
    np.testing.assert_allclose(logits, np.broadcast_to(logits[0], logits.shape), rtol=1e-5)
    if code.endswith("ai8"):
        with torch.no_grad():
            expected = module(torch.zeros(1, 1, 5, 5)).numpy()
        assert np.abs(logits[0] - expected).max() < 0.25 * np.abs(expected).max()


@pytest.mark.parametrize(("code", "options"), CODES)
def test_a_network_of_single_numbers_works(tmp_path, code, options) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(1, 1))
    quantized, samples = run(module, (1, 1, 1), code, tmp_path, options)
    assert [layer.weight.codes.size for layer in quantized.layers()] == [1, 1, 1]
    assert np.isfinite(quantized.predict(samples)).all()


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
@pytest.mark.parametrize("code", ["static_wi8_ai8", "weight_only_wi4", "float32"])
def test_a_layer_without_weights_is_refused_by_name(tmp_path, code) -> None:
    with pytest.raises(BadData, match="weight of 1 is empty"):
        run(nn.Sequential(nn.Flatten(), nn.Linear(4, 0), nn.Linear(0, 3)), (2, 2, 1), code, tmp_path)
