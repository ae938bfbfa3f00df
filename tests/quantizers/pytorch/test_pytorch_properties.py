"""Scales and errors of every technique against arithmetic done by hand, over random shapes, bits and choices."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from training_samples import simple_training

from quantizers.adapter import Request
from quantizers.capabilities import resolve_options, techniques
from quantizers.numerics import quantization_error, tensor_error
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.pytorch.weights import Choice, integers
from quantizers.schema import Backend, Mode, Technique

pytestmark = pytest.mark.adapter

SHAPES = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple)


def by_hand(block: np.ndarray, highest: int, affine: bool) -> tuple[np.float32, int]:
    """Scale and zero point of weights that share one: the whole range, zero included."""
    low, high = min(float(block.min()), 0.0), max(float(block.max()), 0.0)
    if not affine:
        return np.float32(max(-low, high) / highest or 1.0), 0
    width = (high - low) / (2 * highest + 1)
    return np.float32(width or 1.0), int(np.clip(np.rint(-highest - 1 - low / (width or 1.0)), -highest - 1, highest))


def blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [row[start : start + size] for row in rows for start in range(0, rows.shape[1], size)]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    SHAPES,
    st.sampled_from([2, 4, 8]),
    st.sampled_from([None, 3, 16]),
    st.booleans(),
    st.booleans(),
    st.floats(1e-6, 1e3),
    st.integers(0, 2**32 - 1),
)
def test_scale_zero_point_and_error_are_those_done_by_hand(shape, bits, group, affine, reduced, spread, seed) -> None:
    weight = (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)
    codes, params = integers(weight, bits, Choice(group_size=group, affine=affine, reduce_range=reduced))
    highest = 63 if reduced and bits == 8 else 2 ** (bits - 1) - 1
    rows = weight.reshape(shape[0], -1).astype(np.float64)
    parts = blocks(rows, group or rows.shape[1])
    grids = [by_hand(part, highest, affine) for part in parts]
    np.testing.assert_allclose(params.scale, [scale for scale, _ in grids], rtol=1e-6)
    np.testing.assert_array_equal(params.zero_point, [zero for _, zero in grids])
    noise = 0.0
    for part, scale, zero in zip(parts, params.scale, params.zero_point, strict=True):
        rounded = np.clip(np.rint(part / scale) + zero, -highest - affine, highest)
        noise += float(((part - scale * (rounded - zero)) ** 2).sum())
    error = quantization_error(weight.reshape(codes.shape), codes, params)
    signal = float((rows**2).sum())
    assert error.mse * weight.size == pytest.approx(noise, rel=1e-9, abs=1e-30)
    if error.sqnr_db is not None:
        assert error.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-6)


class _Tiny(nn.Module):
    """Sizes that divide nothing."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        channels = [int(one) for one in torch.randint(1, 7, (2,))]
        self.conv = nn.Conv2d(1, channels[0], 3, padding=1)
        self.second = nn.Conv2d(channels[0], channels[1], 1)
        self.dense = nn.Linear(channels[1] * 9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.second(self.conv(x).relu()).relu().flatten(1))


CELLS = [cell for cell in techniques(Backend.PYTORCH) if cell.available and cell.code != "float32"]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.code)
def test_every_technique_stores_weights_whose_error_is_the_one_said(cell, tmp_path) -> None:
    seed = CELLS.index(cell)
    module = _Tiny(seed)
    given = dict(module.named_parameters())
    model = SimpleNamespace(info=SimpleNamespace(input_shape=(3, 3, 1)), torch_module=module.eval)
    technique = Technique.parse(cell.code)
    samples = np.random.default_rng(seed).standard_normal((16, 3, 3, 1)).astype(np.float32)
    training = simple_training(samples, classes=5) if technique.needs_training else None
    options = resolve_options(Backend.PYTORCH, technique, {})
    request = Request(technique, options, samples, tmp_path, training=training)
    quantized = PyTorchAdapter().quantize(model, request, lambda fraction, words: None)
    for layer in quantized.layers():
        weight, params = layer.weight, layer.weight.params
        if technique.mode is not Mode.QAT:
            np.testing.assert_array_equal(weight.reference.ravel(), given[f"{layer.name}.weight"].detach().numpy().ravel())
        if params is None:
            restored = weight.codes.astype(np.float64)
            error = tensor_error(weight.reference, restored)
        else:
            restored = _restored(weight.codes, params)
            error = quantization_error(weight.reference, weight.codes, params)
        noise = float(((weight.reference.astype(np.float64) - restored) ** 2).sum())
        signal = float((weight.reference.astype(np.float64) ** 2).sum())
        assert error.sqnr_db is None or error.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-6)
        if params is not None and options.get("weight_range") == "minmax":
            _check_whole_range(weight.reference, params)


def _restored(codes: np.ndarray, params) -> np.ndarray:
    """Element by element: scale × (code − zero point) of its tensor, channel or group."""
    rows = codes.reshape(len(codes), -1)
    size = params.group_size or (rows.shape[1] if params.axis == 0 else rows.size)
    groups = -(-rows.shape[1] // size)
    restored = np.empty(rows.shape)
    for row, column in np.ndindex(*rows.shape):
        place = 0 if params.scale.size == 1 else row * groups + column // size
        restored[row, column] = params.scale[place] * (rows[row, column] - params.zero_point[place])
    return restored.reshape(codes.shape)


def _check_whole_range(reference: np.ndarray, params) -> None:
    rows = reference.reshape(len(reference), -1)
    affine = bool(params.zero_point.any())
    expected = [by_hand(part, params.qmax, affine)[0] for part in blocks(rows, params.group_size or rows.shape[1])]
    np.testing.assert_allclose(params.scale, expected, rtol=1e-6)
