import numpy as np
import pytest
import torch

from benchmarks.sensitivity.mixed import packed_bytes
from benchmarks.sensitivity.rounding import round_weight
from quantizers.errors import BadData, QuantizationError
from quantizers.numerics import dequantize, min_max_params, quantize
from quantizers.pytorch.weights import Choice, integers
from quantizers.schema import Granularity


def weights(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_t(3, shape).astype(np.float32))


@pytest.mark.parametrize("bits", [8, 10, 15])
def test_wide_grids_are_those_of_numerics(bits: int) -> None:
    weight = weights(6, 5, 3, 3)
    rounded = round_weight(weight, bits, "layer")
    params = min_max_params(weight.numpy(), bits, granularity=Granularity.PER_CHANNEL)
    assert rounded.scale is not None
    np.testing.assert_allclose(rounded.scale.numpy(), params.scale, rtol=1e-7)
    assert np.abs(rounded.codes.numpy() - quantize(weight.numpy(), params)).max() <= 1  # its scale is float32
    assert (rounded.codes.numpy() == quantize(weight.numpy(), params)).mean() > 0.999


@pytest.mark.parametrize("bits", [2, 3, 4, 7])
def test_narrow_grids_are_those_of_the_backend(bits: int) -> None:
    weight = weights(6, 40)
    rounded = round_weight(weight, bits, "layer")
    codes, params = integers(weight.numpy(), bits, Choice(fit="mse"))
    error = (rounded.values.numpy() - weight.numpy()) ** 2
    theirs = (dequantize(codes, params) - weight.numpy()) ** 2
    np.testing.assert_allclose(error.sum(axis=1), theirs.sum(axis=1), rtol=1e-5)
    plain = dequantize(*integers(weight.numpy(), bits, Choice())) - weight.numpy()
    assert error.sum() < (plain**2).sum()


def test_sixteen_bits_are_float16() -> None:
    weight = weights(3, 4)
    rounded = round_weight(weight, 16, "layer")
    assert torch.equal(rounded.values, weight.half().float())
    assert packed_bytes(rounded) == 24


@pytest.mark.parametrize(("bits", "expected"), [(8, 5 * 7 + 5 * 4), (4, 18 + 5 * 4)])
def test_bytes_are_those_of_packed_codes(bits: int, expected: int) -> None:
    assert packed_bytes(round_weight(weights(5, 7), bits, "layer")) == expected


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_channels_of_zeros_stay_zero(bits: int) -> None:
    weight = weights(3, 8)
    weight[1] = 0
    values = round_weight(weight, bits, "layer").values
    assert not values[1].any()
    assert torch.isfinite(values).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    weight = weights(3, 8)
    weight[0, 0] = value
    with pytest.raises(QuantizationError, match="conv1 holds NaN"):
        round_weight(weight, 8, "conv1")


@pytest.mark.parametrize("bits", [0, 1, 17, -4])
def test_impossible_widths_are_refused(bits: int) -> None:
    with pytest.raises(BadData, match="bits were asked for"):
        round_weight(weights(2, 2), bits, "layer")
