"""Better post-training quantization: each method against its own definition, and against plain rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pt2_reader import sqnr_db
from torch import nn

from models import zoo
from quantizers.adapter import Batch
from quantizers.numerics import dequantize
from quantizers.pytorch import rounding
from quantizers.pytorch.equalize import equalize
from quantizers.pytorch.program import duplicate, export, float_weights, fold
from quantizers.pytorch.walk import walk
from quantizers.pytorch.weights import Choice, integers

pytestmark = pytest.mark.adapter

MODEL = "fashion-cnn"
W4 = "static_wi4_ai8"


def nchw(batch: Batch) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize(
    "options",
    [{"rounding": "learned"}, {"rounding": "compensated"}, {"bias_correction": True}],
    ids=lambda options: next(iter(options)) + "-" + str(next(iter(options.values()))),
)
def test_an_improvement_brings_the_logits_closer_than_plain_rounding(quantize, options) -> None:
    case, plain = quantize(MODEL, W4, **options), quantize(MODEL, W4)
    expected = quantize(MODEL, "float32").quantized.predict(case.test)
    np.testing.assert_array_equal(case.quantized.plain.predict(case.test), plain.quantized.predict(case.test))
    gain = sqnr_db(expected, case.quantized.predict(case.test)) - sqnr_db(expected, plain.quantized.predict(case.test))
    assert gain > (3 if "rounding" in options else 0.2)
    assert plain.quantized.plain is None


@pytest.mark.parametrize("code", [W4, "weight_only_wi2_g32"])
def test_half_quadratic_ranges_are_told_against_the_techniques_own(quantize, code) -> None:
    case, plain = quantize(MODEL, code, weight_range="hqq"), quantize(MODEL, code)
    np.testing.assert_array_equal(case.quantized.plain.predict(case.test), plain.quantized.predict(case.test))
    assert not np.array_equal(case.quantized.predict(case.test), plain.quantized.predict(case.test))


def test_learned_codes_are_one_of_the_two_neighbours_and_scales_stay(quantize) -> None:
    learned, plain = quantize(MODEL, W4, rounding="learned").quantized, quantize(MODEL, W4).quantized
    moved = 0
    for own, before in zip(learned.layers(), plain.layers(), strict=True):
        np.testing.assert_array_equal(own.weight.params.scale, before.weight.params.scale)
        scale = own.weight.params.scale.reshape(-1, *[1] * (own.weight.codes.ndim - 1))
        steps = np.clip(own.weight.reference / scale, -7, 7)
        assert (np.abs(own.weight.codes - steps) < 1.001).all()
        moved += int((own.weight.codes != before.weight.codes).sum())
    assert moved > 0


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.sampled_from([(1, 1, 0), (2, 1, 1), (1, 2, 2), (2, 3, 1)]), st.sampled_from([1, 2, 4]), st.integers(0, 1000))
def test_moments_give_the_error_of_the_convolutions_output(geometry, groups, seed) -> None:
    stride, dilation, padding = geometry
    torch.manual_seed(seed)
    module = nn.Conv2d(4, 8, 3, stride=stride, dilation=dilation, padding=padding, groups=groups)
    x = torch.randn(3, 4, 9, 9)
    node, arguments = next(walk(export(module.eval(), x).module(), x))
    with torch.no_grad():
        wanted = torch.nn.functional.conv2d(x, module.weight, None, stride, padding, dilation, groups)
        seen = rounding.moments(node, arguments, wanted)
        other = torch.randn_like(module.weight)
        error = ((torch.nn.functional.conv2d(x, other, None, stride, padding, dilation, groups) - wanted) ** 2).sum()
    places = wanted.numel() / 8
    assert float(seen.error(other.reshape(groups, 8 // groups, -1))) == pytest.approx(float(error) / places, rel=1e-3)


@pytest.mark.parametrize("method", ["learned", "compensated"])
@pytest.mark.parametrize("choice", [Choice(fit="mse"), Choice(group_size=8), Choice(affine=True)])
def test_rounding_for_the_output_never_does_worse_than_to_the_nearest(method, choice) -> None:
    torch.manual_seed(0)
    module = nn.Linear(20, 12, bias=False)
    x = torch.randn(200, 20) @ torch.randn(20, 20)
    node, arguments = next(walk(export(module.eval(), x[:2]).module(), x))
    with torch.no_grad():
        seen = rounding.moments(node, arguments, x @ module.weight.T)
    weight = module.weight.detach().numpy()
    codes, params = integers(weight, 4, choice)
    better = rounding.improved(method, weight, (codes, params), seen)
    assert params.qmin <= better.min()
    assert better.max() <= params.qmax

    def error(some: np.ndarray) -> float:
        restored = dequantize(some, params).reshape(weight.shape)
        return float(((x.numpy() @ (weight - restored).T) ** 2).sum())

    assert error(better) < 0.95 * error(codes)


@pytest.mark.parametrize("model", ["fashion-cnn", "fashion-resnet", "mnist-mlp"])
def test_equalizing_changes_weights_and_not_what_the_network_computes(quantize, model) -> None:
    x = nchw(quantize(model, "float32").test[:32])
    before = fold(export(zoo.load(model).torch_module(), x[:2]))
    after = duplicate(before)
    scales = equalize(after)
    assert scales
    assert any(not np.allclose(scale, 1, atol=1e-2) for scale in scales.values())
    with torch.no_grad():
        assert sqnr_db(before(x).numpy(), after(x).numpy()) > 100
    old, new = float_weights(before), float_weights(after)
    assert any(not np.array_equal(old[name], new[name]) for name in old)


def test_equalized_neighbours_have_channels_of_the_same_range(quantize) -> None:
    x = nchw(quantize("mnist-mlp", "float32").test[:2])
    program = fold(export(zoo.load("mnist-mlp").torch_module(), x))
    equalize(program)
    first, second = float_weights(program).values()
    own, following = np.abs(first).max(axis=1), np.abs(second).max(axis=0)
    alive = (own > 0) & (following > 0)
    np.testing.assert_allclose(own[alive], following[alive], rtol=1e-4)


def test_outputs_of_an_equalized_model_compare_with_those_of_the_float_model(quantize) -> None:
    case = quantize(MODEL, "static_wi8_ai8", equalize=True)
    expected = quantize(MODEL, "float32").quantized.activations(case.test[:20])
    activations = case.quantized.activations(case.test[:20])
    assert case.quantized.scales
    assert min(sqnr_db(expected[name], activations[name]) for name in expected) > 20


def test_corrected_biases_give_every_channel_the_mean_it_has_in_float(quantize) -> None:
    corrected, plain = (quantize(MODEL, W4, bias_correction=on).quantized for on in (True, False))
    x = nchw(quantize(MODEL, W4).calibration[:64])
    reference = fold(export(zoo.load(MODEL).torch_module(), x[:2]))

    def largest_shift(program) -> float:
        """Over all channels of all layers, before their activation functions, on the samples that were looked at."""
        shifts = []
        with torch.no_grad():
            for (node, mine), (_, theirs) in zip(walk(program, x), walk(reference, x), strict=True):
                axes = [axis for axis in range(node.meta["val"].ndim) if axis != 1]
                shifts.append(float((node.target(*mine) - node.target(*theirs)).mean(axes).abs().max()))
        return max(shifts)

    assert largest_shift(corrected.program) < 1e-4
    assert largest_shift(plain.program) > 1e-2


def test_a_layer_without_bias_gets_one_when_it_needs_correction(quantize) -> None:
    case = quantize(MODEL, W4, bias_correction=True)
    assert all(layer.bias is not None for layer in case.quantized.layers())
