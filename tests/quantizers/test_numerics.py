"""The affine mathematics against formulae written out another way, on random tensors of every granularity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.numerics import (
    IDEAL_RMSE_PER_STEP,
    binary,
    dequantize,
    integer_range,
    min_max_params,
    quantization_error,
    quantize,
    tensor_error,
    ternary,
)
from quantizers.schema import Granularity, QuantParams, Scheme

Tensor = NDArray[np.float32]
unhurried = settings(deadline=None, derandomize=True)
"""Examples may take as long as a busy machine makes them take."""

tensors = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7),
    elements=st.floats(-1e3, 1e3, width=32),
)
bit_widths = st.sampled_from([2, 3, 4, 8, 16])
schemes = st.sampled_from(Scheme)
granularities = st.sampled_from(Granularity)
group_sizes = st.integers(1, 9)


def scalar_params(scale: float, zero_point: int, qmin: int, qmax: int) -> QuantParams:
    return QuantParams(np.array([scale]), np.array([zero_point]), qmin, qmax, "int8")


def per_element(params: QuantParams, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scale and zero point of every element, found by walking over its indexes."""
    scale, zero = np.empty(shape), np.empty(shape, np.int64)
    for index in np.ndindex(shape):
        if params.axis is not None:
            which = index[params.axis]
        elif params.group_size is not None:
            groups = -(-shape[-1] // params.group_size)
            row = int(np.ravel_multi_index(index[:-1], shape[:-1])) if len(shape) > 1 else 0
            which = row * groups + index[-1] // params.group_size
        else:
            which = 0
        scale[index], zero[index] = params.scale[which], params.zero_point[which]
    return scale, zero


@pytest.mark.parametrize(
    ("bits", "signed", "narrow", "expected"),
    [
        (8, True, False, (-128, 127)),
        (8, True, True, (-127, 127)),
        (8, False, False, (0, 255)),
        (4, True, False, (-8, 7)),
        (2, True, True, (-1, 1)),
        (16, True, False, (-32768, 32767)),
    ],
)
def test_integer_ranges(bits: int, signed: bool, narrow: bool, expected: tuple[int, int]) -> None:
    assert integer_range(bits, signed=signed, narrow=narrow) == expected


def test_halves_round_to_even_and_the_ends_clip() -> None:
    params = scalar_params(1.0, 0, -4, 3)
    x = np.array([-9.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 9.0, np.inf, -np.inf])
    assert quantize(x, params).tolist() == [-4, -2, -2, 0, 0, 2, 2, 3, 3, -4]


def test_a_zero_point_shifts_codes_and_not_values() -> None:
    params = scalar_params(0.5, 10, 0, 255)
    codes = quantize(np.array([-5.0, 0.0, 1.0]), params)
    assert codes.tolist() == [0, 10, 12]
    assert dequantize(codes, params).tolist() == [-5.0, 0.0, 1.0]


def test_unsigned_codes_do_not_wrap_around() -> None:
    params = scalar_params(1.0, 255, 0, 255)
    assert dequantize(np.array([0, 255], np.uint8), params).tolist() == [-255.0, 0.0]


def test_nan_has_no_code() -> None:
    with pytest.raises(BadData, match="NaN"):
        quantize(np.array([0.0, np.nan]), scalar_params(1.0, 0, -8, 7))


@unhurried
@given(tensors, bit_widths, schemes, granularities, group_sizes, st.data())
def test_each_element_uses_the_grid_of_its_own_channel_or_group(
    x: Tensor, bits: int, scheme: Scheme, granularity: Granularity, group_size: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(0, x.ndim - 1))
    params = min_max_params(x, bits, scheme=scheme, granularity=granularity, axis=axis, group_size=group_size)
    scale, zero = per_element(params, x.shape)
    codes = quantize(x, params)
    expected = np.array(
        [
            min(max(round(float(v) / s) + int(z), params.qmin), params.qmax)
            for v, s, z in zip(x.ravel(), scale.ravel(), zero.ravel(), strict=True)
        ]
    )
    assert codes.ravel().tolist() == expected.tolist()
    np.testing.assert_allclose(dequantize(codes, params), (codes - zero) * scale, rtol=1e-12)


@unhurried
@given(tensors, bit_widths, schemes, granularities, group_sizes, st.data())
def test_min_max_covers_its_tensor_and_errs_by_half_a_step(
    x: Tensor, bits: int, scheme: Scheme, granularity: Granularity, group_size: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(0, x.ndim - 1))
    params = min_max_params(x, bits, scheme=scheme, granularity=granularity, axis=axis, group_size=group_size)
    assert params.granularity is granularity
    assert params.dtype == f"int{bits}"
    assert (params.scale > 0).all()
    assert ((params.qmin <= params.zero_point) & (params.zero_point <= params.qmax)).all()
    scale, _ = per_element(params, x.shape)
    codes = quantize(x, params)
    # An affine grid's own zero point is rounded too: half a step more at either end.
    steps = 0.5 if scheme is Scheme.SYMMETRIC else 1.0
    assert (np.abs(x - dequantize(codes, params)) <= scale * steps * (1 + 1e-9)).all()
    assert quantization_error(x, codes, params).max_abs <= float(scale.max()) * steps * (1 + 1e-9)


@unhurried
@given(tensors, bit_widths, schemes)
def test_zero_is_always_exact(x: Tensor, bits: int, scheme: Scheme) -> None:
    params = min_max_params(x, bits, scheme=scheme)
    assert dequantize(quantize(np.zeros(3), params), params).tolist() == [0.0, 0.0, 0.0]


@unhurried
@given(tensors, bit_widths)
def test_symmetric_grids_mirror(x: Tensor, bits: int) -> None:
    params = min_max_params(x, bits)
    assert (quantize(-x, params) == -quantize(x, params)).all()
    assert params.scheme is Scheme.SYMMETRIC


@unhurried
@given(tensors, schemes, granularities, group_sizes)
def test_what_was_dequantized_quantizes_to_the_same_codes(
    x: Tensor, scheme: Scheme, granularity: Granularity, group_size: int
) -> None:
    params = min_max_params(x, 8, scheme=scheme, granularity=granularity, group_size=group_size)
    codes = quantize(x, params)
    assert (quantize(dequantize(codes, params), params) == codes).all()


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_range_of_no_width_stays_exact(scheme: Scheme, granularity: Granularity) -> None:
    x = np.zeros((3, 5), np.float32)
    params = min_max_params(x, 8, scheme=scheme, granularity=granularity, group_size=2)
    error = quantization_error(x, quantize(x, params), params)
    assert (params.scale == 1).all()
    assert error.exact
    assert error.sqnr_db is None
    assert error.cosine is None
    assert error.mse == error.max_abs == error.clipping_share == 0.0


def test_groups_that_do_not_divide_the_last_axis_end_short() -> None:
    x = np.array([[1, 2, 3, 4, 50], [6, 7, 8, 9, 100]], np.float32)
    params = min_max_params(x, 8, granularity=Granularity.PER_GROUP, group_size=2)
    np.testing.assert_allclose(params.scale * 127, [2, 4, 50, 7, 9, 100])


def test_a_channel_of_its_own_scale_is_not_hurt_by_its_neighbour() -> None:
    x = np.array([[100.0, -100.0], [0.01, 0.005]], np.float32)
    alone = min_max_params(x, 8, granularity=Granularity.PER_CHANNEL, axis=0)
    shared = min_max_params(x, 8)
    assert (dequantize(quantize(x, shared), shared)[1] == 0).all()
    np.testing.assert_allclose(dequantize(quantize(x, alone), alone)[1], x[1], rtol=0.01)


def test_figures_by_hand() -> None:
    error = tensor_error(np.array([3.0, 4.0]), np.array([3.0, 3.0]))
    assert error.mse == 0.5
    assert error.max_abs == 1.0
    assert error.sqnr_db == pytest.approx(10 * np.log10(25 / 1))
    assert error.cosine == pytest.approx(21 / (5 * np.sqrt(18)))
    assert not error.exact


@unhurried
@given(tensors, st.floats(0.1, 10))
def test_the_figures_know_of_no_unit(x: Tensor, factor: float) -> None:
    params = min_max_params(x, 4)
    scaled = QuantParams(params.scale * factor, params.zero_point, params.qmin, params.qmax, params.dtype)
    codes = quantize(x, params)
    one, other = quantization_error(x, codes, params), quantization_error(x.astype(np.float64) * factor, codes, scaled)
    # A tensor whose error is rounding of float64 alone has no meaningful ratio.
    if one.sqnr_db is not None and one.sqnr_db < 200:
        assert other.sqnr_db == pytest.approx(one.sqnr_db, abs=1e-6)
        assert other.rmse_per_step == pytest.approx(one.rmse_per_step, rel=1e-6)
        assert other.mse == pytest.approx(one.mse * factor**2, rel=1e-6)


def test_an_ideal_rounder_errs_by_one_over_root_twelve_steps() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 200_000)
    params = min_max_params(x, 8)
    error = quantization_error(x, quantize(x, params), params)
    assert error.rmse_per_step == pytest.approx(IDEAL_RMSE_PER_STEP, rel=0.01)
    # 6.02 dB a bit: a uniform signal of b bits has SQNR 20·log10(2^b − 1).
    assert error.sqnr_db == pytest.approx(20 * np.log10(2**8 - 2), abs=0.1)


def test_clipping_and_rounding_share_the_error() -> None:
    params = scalar_params(1.0, 0, -4, 3)
    x = np.array([0.25, 5.0, -4.0])
    error = quantization_error(x, quantize(x, params), params)
    assert error.clipping_share == pytest.approx(2.0**2 / (2.0**2 + 0.25**2))
    assert error.levels_used == 3 / 8


@unhurried
@given(tensors, bit_widths)
def test_min_max_never_clips(x: Tensor, bits: int) -> None:
    params = min_max_params(x, bits)
    # The bound itself, divided and multiplied by the scale, may lie an ulp off.
    wide = QuantParams(params.scale * (1 + 1e-12), params.zero_point, params.qmin, params.qmax, params.dtype)
    error = quantization_error(x, quantize(x, wide), wide)
    assert error.clipping_share == 0.0
    assert error.levels_used is not None
    assert 0 < error.levels_used <= 1


@unhurried
@given(tensors, st.floats(0.05, 0.9))
def test_a_narrowed_range_clips_what_lies_outside(x: Tensor, factor: float) -> None:
    full = min_max_params(x, 8)
    params = QuantParams(full.scale * factor, full.zero_point, full.qmin, full.qmax, full.dtype)
    codes = quantize(x, params)
    outside = np.abs(x.astype(np.float64)) > params.scale[0] * params.qmax
    squared = (x - dequantize(codes, params)) ** 2
    share = quantization_error(x, codes, params).clipping_share
    total = float(squared.sum())
    assert share == pytest.approx(float(squared[outside].sum()) / total if total else 0.0)


def test_binary_and_ternary_by_hand_along_the_last_axis() -> None:
    x = np.array([[1.0, -0.1], [-3.0, 0.1], [2.0, 4.0]])
    codes, params = binary(x, axis=1)
    assert codes.tolist() == [[1, -1], [-1, 1], [1, 1]]
    assert params.scale.tolist() == pytest.approx([2.0, 1.4])
    codes, params = ternary(x, axis=1)  # thresholds 1.4 and 0.98
    assert codes.tolist() == [[0, 0], [-1, 0], [1, 1]]
    assert params.scale.tolist() == pytest.approx([2.5, 4.0])
    assert (params.axis, params.dtype) == (1, "int2")


@unhurried
@given(tensors)
def test_no_other_scale_makes_signs_closer(x: Tensor) -> None:
    codes, params = binary(x)
    least = ((x - dequantize(codes, params)) ** 2).sum()
    for factor in (0.9, 1.1):
        other = QuantParams(params.scale * factor, params.zero_point, -1, 1, "int1", axis=0)
        assert ((x - dequantize(codes, other)) ** 2).sum() >= least * (1 - 1e-6) - 1e-30


def test_a_channel_of_zeros_stays_zero() -> None:
    for rounded in (binary(np.zeros((2, 3))), ternary(np.zeros((2, 3)))):
        assert np.abs(dequantize(*rounded)).max() < 1e-30


# ── narrowed ranges, one bit, powers of two ───────────────────────────────────────────────────────────────────────────────


@unhurried
@given(tensors, st.sampled_from([2, 4, 8]), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_a_clipped_grid_covers_that_part_of_each_side(x: Tensor, bits: int, below: float, above: float) -> None:
    params = min_max_params(x, bits, scheme=Scheme.AFFINE, clip=(below, above))
    low, high = below * min(float(x.min()), 0.0), above * max(float(x.max()), 0.0)
    step = params.scale[0]
    represented = (params.qmin - params.zero_point[0]) * step, (params.qmax - params.zero_point[0]) * step
    if high > low:
        # The zero point is a whole number, so both ends may move by half a step, together.
        assert represented == (pytest.approx(low, abs=step * 0.5001), pytest.approx(high, abs=step * 0.5001))
        assert represented[1] - represented[0] == pytest.approx(high - low)


@unhurried
@given(tensors, schemes, granularities, st.integers(1, 16))
def test_every_width_from_1_to_16_bits_gives_codes_in_its_range(
    x: Tensor, scheme: Scheme, granularity: Granularity, bits: int
) -> None:
    params = min_max_params(x, bits, scheme=scheme, granularity=granularity, group_size=3)
    codes = quantize(x, params)
    assert ((params.qmin <= codes) & (codes <= params.qmax)).all()
    assert len(np.unique(codes)) <= 2**bits
    error = quantization_error(x, codes, params)
    assert error.levels_used is not None
    assert 0 < error.levels_used <= 1


def test_one_symmetric_bit_is_a_sign_and_a_size() -> None:
    x = np.array([-3.0, -0.1, 0.0, 2.0])
    params = min_max_params(x, 1, clip=(0.5, 0.5))
    assert dequantize(quantize(x, params), params).tolist() == [-1.5, -1.5, 1.5, 1.5]
    assert quantization_error(x, quantize(x, params), params).levels_used == 1.0


@unhurried
@given(tensors, schemes, bit_widths)
def test_a_power_of_two_scale_is_the_next_larger_one(x: Tensor, scheme: Scheme, bits: int) -> None:
    plain = min_max_params(x, bits, scheme=scheme)
    shifted = min_max_params(x, bits, scheme=scheme, power_of_two=True)
    mantissa, _ = np.frexp(shifted.scale)
    assert (mantissa == 0.5).all()
    assert ((plain.scale <= shifted.scale) & (shifted.scale < 2 * plain.scale)).all()
    steps = 0.5 if scheme is Scheme.SYMMETRIC else 1.0
    error = quantization_error(x, quantize(x, shifted), shifted)
    assert error.max_abs <= steps * shifted.scale[0] * (1 + 1e-9)


# ── tensors that are not what one hopes for ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("everywhere", [True, False])
def test_what_has_no_range_is_refused(value: float, granularity: Granularity, everywhere: bool) -> None:
    x = np.full((2, 3), value) if everywhere else np.array([[1.0, value, 0.0], [1.0, 2.0, 3.0]])
    with pytest.raises(BadData, match="NaN or infinity"):
        min_max_params(x, 8, granularity=granularity)


@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("value", [0.3, -0.3, 5e-324, 1e-40, 3e38])
def test_a_constant_tensor_comes_back(value: float, scheme: Scheme) -> None:
    x = np.full((3, 4), value)
    params = min_max_params(x, 8, scheme=scheme, granularity=Granularity.PER_CHANNEL)
    restored = dequantize(quantize(x, params), params)
    # Beneath the smallest normal number a step of range ÷ 255 no longer exists.
    np.testing.assert_allclose(restored, x, rtol=1e-12, atol=5e-324)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_scalar_and_a_single_element_are_tensors(scheme: Scheme) -> None:
    for x in (np.array(-2.5), np.array([-2.5])):
        params = min_max_params(x, 8, scheme=scheme)
        codes = quantize(x, params)
        assert codes.shape == x.shape
        assert quantization_error(x, codes, params).max_abs < 1e-12


def test_a_scalar_has_neither_channels_nor_groups() -> None:
    for granularity in (Granularity.PER_CHANNEL, Granularity.PER_GROUP):
        with pytest.raises(BadData, match="0 dimensions"):
            min_max_params(np.array(1.0), 8, granularity=granularity)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("granularity", list(Granularity))
def test_an_empty_tensor_has_parameters_and_no_error(shape: tuple[int, ...], granularity: Granularity) -> None:
    x = np.zeros(shape)
    params = min_max_params(x, 8, granularity=granularity)
    assert quantize(x, params).shape == shape
    with pytest.raises(BadData, match="without values"):
        quantization_error(x, quantize(x, params), params)


def test_channels_of_zeros_stay_zero_beside_others() -> None:
    x = np.array([[0.0, 0.0], [1.0, -2.0]])
    params = min_max_params(x, 4, granularity=Granularity.PER_CHANNEL)
    assert dequantize(quantize(x, params), params)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "asked", [{"bits": 0}, {"bits": 33}, {"bits": 8, "clip": (0.0, 1.0)}, {"bits": 8, "group_size": 0}, {"bits": 8, "axis": 2}]
)
def test_senseless_requests_are_refused(asked: dict[str, int]) -> None:
    granularity = Granularity.PER_GROUP if "group_size" in asked else Granularity.PER_CHANNEL
    with pytest.raises(BadData):
        min_max_params(np.ones((2, 2)), granularity=granularity, **asked)
