"""The compiled passes give the numbers of the exact mathematics, for every shape and size of number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.numerics import TensorError, dequantize, min_max_params, quantize, tensor_error
from quantizers.schema import Granularity
from quantizers.weight_error import BITS, GRANULARITIES, WeightErrors, weight_errors

TOLERANCE = 1e-5
FLOAT32_NOISE = 1e-12
"""Σe² ÷ Σx² from here down is what float32 itself gets wrong."""
Tensor = NDArray[np.float32]

tensors = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9),
    elements=st.floats(-1e3, 1e3, width=32),
)


def reference(x: Tensor, bits: int, granularity: Granularity) -> TensorError:
    params = min_max_params(x, bits, granularity=granularity)
    return tensor_error(x, dequantize(quantize(x, params), params))


def assert_same(ours: WeightErrors, x: Tensor, bits: tuple[int, ...] = BITS) -> None:
    power = float((x.astype(np.float64) ** 2).mean())
    for row, granularity in enumerate(GRANULARITIES):
        for column, width in enumerate(bits):
            exact = reference(x, width, granularity)
            assert ours.mse[row, column] == pytest.approx(exact.mse, rel=TOLERANCE, abs=FLOAT32_NOISE * power)
            if exact.sqnr_db is not None and exact.mse > FLOAT32_NOISE * power:
                assert ours.sqnr_db[row, column] == pytest.approx(exact.sqnr_db, rel=TOLERANCE, abs=1e-4)
            if exact.cosine is not None:
                assert ours.cosine[row, column] == pytest.approx(exact.cosine, rel=TOLERANCE)
            else:
                assert np.isnan(ours.cosine[row, column])


@settings(deadline=None, derandomize=True)
@given(tensors, st.sampled_from([1.0, 1e-15, 1e15, 1e-33]))
def test_any_tensor_gets_the_exact_numbers(x: Tensor, size: float) -> None:
    x = (x * np.float32(size)).astype(np.float32)
    assert_same(weight_errors({"w": x})["w"], x)


@pytest.mark.parametrize("shape", [(64, 300), (5, 20_000), (1, 50_001), (700, 9), (32, 16, 3, 3)])
def test_rows_of_any_length_are_cut_without_losing_any(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_t(4, shape).astype(np.float32)
    assert_same(weight_errors({"w": x}, (2, 4, 8, 12), threads=2)["w"], x, (2, 4, 8, 12))


def test_a_tensor_larger_than_a_chunk_is_shared_between_threads() -> None:
    x = np.random.default_rng(1).standard_t(4, (3, 700_000)).astype(np.float32)
    assert_same(weight_errors({"w": x}, (8,), threads=2)["w"], x, (8,))
    alone, shared = (weight_errors({"w": x}, (8,), threads)["w"] for threads in (1, 2))
    assert (alone.mse == shared.mse).all()


def test_channels_of_any_size_live_side_by_side() -> None:
    row = np.random.default_rng(2).normal(size=(1, 400))
    x = (row * np.array([[1e-41], [1e-25], [1.0], [0.0]])).astype(np.float32)
    assert_same(weight_errors({"w": x})["w"], x)


def test_nothing_lost_is_exact_and_nothing_there_has_no_ratio() -> None:
    found = weight_errors({"constant": np.full((2, 3), 0.3), "zeros": np.zeros((2, 3)), "scalar": np.array(2.0)})
    assert found["constant"].exact.all()
    assert found["zeros"].exact.all()
    assert found["scalar"].exact.all()
    assert np.isnan(found["constant"].sqnr_db).all()
    assert np.isnan(found["zeros"].cosine).all()
    np.testing.assert_allclose(found["constant"].cosine, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_has_no_range_is_refused_by_name(value: float) -> None:
    x = np.ones((4, 5000), np.float32)
    x[2, 4321] = value
    with pytest.raises(BadData, match="conv1 holds NaN or infinity"):
        weight_errors({"fine": np.ones((2, 2)), "conv1": x})


def test_an_empty_tensor_is_refused_by_name() -> None:
    with pytest.raises(BadData, match="conv1 has no values"):
        weight_errors({"conv1": np.zeros((0, 3))})
