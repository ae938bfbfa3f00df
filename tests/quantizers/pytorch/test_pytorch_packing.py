"""Weights of few bits: the arithmetic against NumPy done by hand, and what lies on disk."""

from __future__ import annotations

import zipfile

import numpy as np
import pt2_reader
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers import numerics
from quantizers.numerics import dequantize, tensor_error
from quantizers.pytorch import packing, weights
from quantizers.pytorch.weights import Choice
from quantizers.schema import Granularity, Scheme, Technique

pytestmark = pytest.mark.adapter

SHAPES = st.lists(st.integers(1, 7), min_size=2, max_size=4).map(tuple)
RECIPES = {
    "i8": lambda w: weights.integers(w, 8, Choice(group_size=5)),
    "i8 affine": lambda w: weights.integers(w, 8, Choice(affine=True)),
    "i4": lambda w: weights.integers(w, 4, Choice()),
    "i4 in groups": lambda w: weights.integers(w, 4, Choice(group_size=4, fit="mse")),
    "i4 affine in groups": lambda w: weights.integers(w, 4, Choice(group_size=3, affine=True, fit="hqq")),
    "i2": lambda w: weights.integers(w, 2, Choice(fit="mse")),
    "i2 in groups": lambda w: weights.integers(w, 2, Choice(group_size=3)),
    "binary": numerics.binary,
    "ternary": numerics.ternary,
}


def draw(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SHAPES, st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**32 - 1))
def test_packing_and_unpacking_is_lossless_and_as_small_as_the_bits_say(shape, bits, seed) -> None:
    highest = max(2 ** (bits - 1) - 1, 1)
    codes = np.random.default_rng(seed).integers(-highest - (bits > 1), highest + 1, shape)
    if bits == 1:
        codes = np.where(codes > 0, 1, -1)
    packed = packing.pack(codes, bits)
    assert packed.nbytes == -(-codes.size * bits // 8)
    np.testing.assert_array_equal(packing.unpack(torch.from_numpy(packed), bits, shape).numpy(), codes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SHAPES, st.sampled_from(sorted(RECIPES)), st.integers(0, 2**32 - 1))
def test_the_operation_gives_scale_times_code_minus_zero_point(shape, recipe, seed) -> None:
    codes, params = RECIPES[recipe](draw(shape, seed))
    bits = int(params.dtype.removeprefix("int"))
    zero = torch.from_numpy(params.zero_point.astype(np.int8)).reshape(shape[0], -1)
    restored = packing.dequantize_packed(
        torch.from_numpy(packing.pack(codes, bits)),
        torch.from_numpy(params.scale.astype(np.float32)).reshape(shape[0], -1),
        zero if params.scheme is Scheme.AFFINE else None,
        bits,
        params.group_size or int(np.prod(shape[1:])),
        shape,
    )
    np.testing.assert_array_equal(restored.numpy(), dequantize(codes, params).astype(np.float32).reshape(shape))


def test_binary_and_ternary_are_those_of_their_papers() -> None:
    weight = np.array([[1.0, -3.0, 0.5, -0.5], [0.0, 0.0, 0.0, 0.0]], np.float32)
    codes, params = numerics.binary(weight)
    np.testing.assert_array_equal(codes, [[1, -1, 1, -1], [1, 1, 1, 1]])
    assert (params.scale[0], params.dtype) == (1.25, "int1")
    codes, params = numerics.ternary(weight)  # threshold 0.7 · 1.25 = 0.875
    np.testing.assert_array_equal(codes, [[1, -1, 0, 0], [0, 0, 0, 0]])
    assert (params.scale[0], params.dtype) == (2.0, "int2")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SHAPES, st.sampled_from([2, 4]), st.sampled_from([None, 3, 16]), st.integers(0, 2**32 - 1))
def test_searching_the_range_never_adds_error_to_a_group(shape, bits, group_size, seed) -> None:
    weight = draw(shape, seed)
    columns = int(np.prod(shape[1:]))
    size = min(group_size or columns, columns)
    errors = []
    for fit in ("minmax", "mse"):
        codes, params = weights.integers(weight, bits, Choice(group_size=group_size, fit=fit))
        squared = (weight.reshape(shape[0], -1) - dequantize(codes, params).reshape(shape[0], -1)) ** 2
        errors.append(np.add.reduceat(squared, np.arange(0, columns, size), axis=1))
    assert (errors[1] <= errors[0] * (1 + 1e-6) + 1e-15).all()


def test_plain_rounding_covers_the_range_of_each_group() -> None:
    weight = draw((3, 10), 1)
    codes, params = weights.integers(weight, 4, Choice(group_size=4))
    assert params.granularity is Granularity.PER_GROUP
    for row in range(3):
        for place, start in enumerate((0, 4, 8)):
            part = weight[row, start : start + 4]
            scale = np.float32(np.abs(part).max() / 7)
            assert params.scale[row * 3 + place] == pytest.approx(scale, rel=1e-6)
            np.testing.assert_array_equal(codes[row, start : start + 4], np.rint(part / scale))


def test_a_channel_of_zeros_stays_zero_and_an_even_one_survives() -> None:
    weight = np.stack([np.zeros(9), np.full(9, 0.3)]).astype(np.float32)
    for bits, fit in ((2, "mse"), (4, "mse"), (2, "hqq"), (4, "hqq")):
        codes, params = weights.integers(weight, bits, Choice(fit=fit))
        np.testing.assert_allclose(dequantize(codes, params), weight, rtol=1e-6)


WIDTHS = {"weight_only_wi4": 4, "weight_only_wi4_g32": 4, "weight_only_wi2": 2, "ternary": 2, "binary": 1}


@pytest.mark.parametrize(("code", "bits"), WIDTHS.items())
def test_the_file_holds_every_weight_in_its_bits_and_no_float_weights(quantize, code, bits) -> None:
    case = quantize("fashion-cnn", code)
    with zipfile.ZipFile(case.quantized.path) as archive:
        stored = sum(one.file_size for one in archive.infolist() if "/data/weights/weight_" in one.filename)
    expected = 0
    for layer in case.quantized.layers():
        grids = layer.weight.params.scale.size
        expected += -(-layer.weight.codes.size * bits // 8) + 4 * grids + 4 * layer.bias.codes.size
        expected += grids if code == "weight_only_wi2" else 0  # zero points, int8
    assert stored == expected


def test_fewer_bits_make_a_smaller_file_and_more_error(quantize) -> None:
    codes = ("weight_only_wi8", "weight_only_wi4", "weight_only_wi2", "binary")
    cases = [quantize("fashion-cnn", code).quantized for code in codes]
    sizes = [case.path.stat().st_size for case in cases]
    assert sizes == sorted(sizes, reverse=True)
    restored = [case.layers()[1].weight for case in cases]
    errors = [tensor_error(w.reference, dequantize(w.codes, w.params)).sqnr_db for w in restored]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("code", ["weight_only_wi4_g32", "binary", "static_wi4_ai8", "hybrid_wf16_ai8"])
def test_an_artefact_loads_back_bit_for_bit(quantize, tmp_path, code) -> None:
    case = quantize("fashion-cnn", code)
    copy = tmp_path / "copy.pt2"
    copy.write_bytes(case.quantized.path.read_bytes())
    program = pt2_reader.load(copy).module()
    with torch.no_grad():
        x = torch.from_numpy(np.ascontiguousarray(case.test[:64].transpose(0, 3, 1, 2)))
        np.testing.assert_array_equal(program(x).numpy(), case.quantized.predict(case.test[:64]))
    for layer, stored in zip(case.quantized.layers(), pt2_reader.read(copy), strict=True):
        np.testing.assert_array_equal(layer.weight.codes, stored.codes)


def test_codes_name_their_groups_and_technique(quantize) -> None:
    case = quantize("fashion-cnn", "weight_only_wi4_g32")
    layers = {layer.name: layer for layer in case.quantized.layers()}
    assert layers["conv1"].weight.params.group_size is None  # nine weights a channel, fewer than a group
    assert layers["conv4"].weight.params.group_size == Technique.parse("weight_only_wi4_g32").group_size == 32
    assert layers["conv4"].weight.codes.shape == (64, 64 * 9)
