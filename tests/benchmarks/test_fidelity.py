import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.fidelity import ErrorSums, tensor_report, weight_report
from benchmarks.outputs import LayerOutputs
from quantizers.errors import QuantizationError
from quantizers.numerics import quantization_error, tensor_error
from quantizers.schema import Granularity, QuantParams

values = partial(hnp.arrays, np.float32, elements=st.floats(-100, 100, width=32))
ASYMMETRIC = QuantParams(np.array([0.05]), np.array([-20]), -128, 127, "int8")


@settings(deadline=None)
@given(st.data(), st.integers(1, 12), st.integers(1, 6))
def test_batches_of_any_size_give_the_figures_of_the_whole(data: st.DataObject, n: int, size: int) -> None:
    x, x_hat = data.draw(values((n, 3, 2))), data.draw(values((n, 3, 2)))
    sums = ErrorSums()
    for start in range(0, n, size):
        sums.add(x[start : start + size], x_hat[start : start + size], "x")
    found, whole = sums.figures(), tensor_error(x, x_hat)
    assert found.mse == pytest.approx(whole.mse)
    assert found.max_abs == whole.max_abs
    assert found.sqnr_db == (None if whole.sqnr_db is None else pytest.approx(whole.sqnr_db))
    cosines = [
        error.cosine for one, other in zip(x, x_hat, strict=True) if (error := tensor_error(one, other)).cosine is not None
    ]
    assert found.cosine == (pytest.approx(np.mean(cosines), abs=1e-12) if cosines else None)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 1, 3)])
def test_the_layout_in_memory_changes_no_figure(axes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 5, 2)).astype(np.float32)
    x_hat = x + rng.standard_normal(x.shape).astype(np.float32)
    expected, found, mixed = ErrorSums(), ErrorSums(), ErrorSums()
    laid_out = [np.moveaxis(np.ascontiguousarray(one.transpose(axes)), range(4), axes) for one in (x, x_hat)]
    assert (laid_out[0] == x).all()
    extremes = expected.add(x, x_hat, "x")
    assert extremes == (min(x.min(), x_hat.min()), max(x.max(), x_hat.max()))
    assert found.add(*laid_out, "x") == mixed.add(laid_out[0], x_hat, "x") == extremes
    for other in (found, mixed):
        for figure in ("sqnr_db", "mse", "cosine", "max_abs"):
            assert getattr(other.figures(), figure) == pytest.approx(getattr(expected.figures(), figure), rel=1e-12)


def test_equal_outputs_are_exact_and_have_no_sqnr() -> None:
    sums = ErrorSums()
    sums.add(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), "x")
    found = sums.figures()
    assert (found.sqnr_db, found.sqnr_db_why_not) == (None, "exact")
    assert (found.mse, found.max_abs) == (0.0, 0.0)
    assert found.cosine == pytest.approx(1.0)


def test_figures_that_do_not_exist_say_why() -> None:
    sums = ErrorSums()
    sums.add(np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32), "x")
    found = sums.figures()
    assert found.sqnr_db is None
    assert "zero" in str(found.sqnr_db_why_not)
    assert found.cosine is None
    assert found.cosine_why_not


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_figure_is_made_of_nan(bad: float, make_layer) -> None:
    broken = np.array([[1.0, bad]], np.float32)
    with pytest.raises(QuantizationError, match="output of conv1"):
        LayerOutputs([make_layer()]).add({"conv1": np.ones((1, 2), np.float32)}, {"conv1": broken})
    with pytest.raises(QuantizationError, match="weight of conv1"):
        weight_report(make_layer(reference=broken, dtype="float32").weight)


def test_outputs_of_different_shape_are_not_compared(make_layer) -> None:
    with pytest.raises(ValueError, match=r"conv1.*\(1, 2\).*\(1, 1\)"):
        LayerOutputs([make_layer()]).add({"conv1": np.ones((1, 2), np.float32)}, {"conv1": np.ones((1, 1), np.float32)})


@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_weights_report_holds_its_grid_and_its_error(make_layer, granularity: Granularity) -> None:
    weight = make_layer(granularity=granularity, bits=4).weight
    found, error = weight_report(weight), quantization_error(weight.reference, weight.codes, weight.params)
    assert (found.dtype, found.bits, found.shape) == ("int4", 4, [4, 3, 3, 2])
    assert (found.granularity, found.scheme, found.qmin, found.qmax) == (granularity, "symmetric", -7, 7)
    assert found.axis == (0 if granularity is Granularity.PER_CHANNEL else None)
    assert found.group_size == (3 if granularity is Granularity.PER_GROUP else None)
    assert found.scale == weight.params.scale.tolist()
    assert found.zero_point == [0] * len(found.scale)
    for figure in ("sqnr_db", "mse", "cosine", "max_abs", "rmse_per_step", "clipping_share", "levels_used"):
        assert getattr(found, figure) == getattr(error, figure)
        assert getattr(found, f"{figure}_why_not", None) is None


def test_a_float16_weight_has_an_error_and_no_grid(make_layer) -> None:
    found = weight_report(make_layer(dtype="float16").weight)
    assert (found.dtype, found.bits, found.scale, found.zero_point) == ("float16", 16, None, None)
    assert "float16" in str(found.scale_why_not)
    assert found.sqnr_db is not None
    assert found.sqnr_db > 60
    assert found.rmse_per_step is found.clipping_share is found.levels_used is None
    assert found.rmse_per_step_why_not == found.clipping_share_why_not == found.levels_used_why_not == "not stored as integers"


def test_an_untouched_weight_is_exact(make_layer) -> None:
    found = weight_report(make_layer(dtype="float32").weight)
    assert (found.sqnr_db, found.sqnr_db_why_not, found.mse) == (None, "exact", 0.0)


def test_an_activations_grid_is_told_in_full(make_layer) -> None:
    found = tensor_report(make_layer(output=ASYMMETRIC).output)
    assert (found.scale, found.zero_point, found.scheme, found.qmin, found.qmax) == ([0.05], [-20], "affine", -128, 127)


def test_layers_are_reported_in_execution_order_and_as_clean_json(make_layer) -> None:
    layers = [make_layer("late"), make_layer("early", dtype="float32")]
    outputs = {layer.name: np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32) for layer in layers}
    errors = LayerOutputs(layers, threads=2)
    errors.add(outputs, {**outputs, "late": outputs["late"] + np.float32(0.1)})
    late, early = [asdict(report) for report in errors.reports()]
    assert (late["name"], early["name"]) == ("late", "early")
    assert late["output"]["mse"] == pytest.approx(0.01, rel=1e-5)
    assert early["output"]["sqnr_db_why_not"] == "exact"
    assert early["why_not"] == "kept in float"
    assert late["bias"] is None
    assert late["inputs"][0]["dtype"] == "float32"
    assert json.loads(json.dumps([late, early], allow_nan=False)) == [late, early]
