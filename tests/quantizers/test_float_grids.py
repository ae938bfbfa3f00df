"""Floating-point grids against the ml_dtypes library, on random values of every size."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.float_grids import FLOAT_GRIDS

LIBRARY_TYPES = {"float16": "float16", "bfloat16": "bfloat16", "float8_e4m3": "float8_e4m3fn", "float8_e5m2": "float8_e5m2"}


@settings(deadline=None, derandomize=True)
@pytest.mark.parametrize("name", FLOAT_GRIDS)
@given(x=hnp.arrays(np.float32, 40, elements=st.floats(width=32, allow_nan=False)), shrink=st.sampled_from([1.0, 1e-4, 1e-30]))
def test_floats_round_as_the_ml_dtypes_library_rounds_them(name: str, x: NDArray[np.float32], shrink: float) -> None:
    grid = FLOAT_GRIDS[name]
    x = np.clip(x * np.float32(shrink), -grid.largest, grid.largest)
    expected = x.astype(np.dtype(getattr(ml_dtypes, LIBRARY_TYPES[name], LIBRARY_TYPES[name]))).astype(np.float64)
    assert (grid.round(x) == expected).all()


@pytest.mark.parametrize("name", FLOAT_GRIDS)
def test_a_float_grid_saturates_and_scales(name: str) -> None:
    grid = FLOAT_GRIDS[name]
    assert grid.round(np.array([np.inf, -1e39, 0.0])).tolist() == [grid.largest, -grid.largest, 0.0]
    assert grid.round(np.array([3.0, -6.0]), scale=3.0).tolist() == [3.0, -6.0]
    assert float(ml_dtypes.finfo(LIBRARY_TYPES[name]).max) == grid.largest
    assert ml_dtypes.finfo(LIBRARY_TYPES[name]).bits == grid.bits
    with pytest.raises(BadData, match="NaN"):
        grid.round(np.array([np.nan]))
