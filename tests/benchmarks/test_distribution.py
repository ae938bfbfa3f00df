from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.distribution import BINS, MOST_BINS, GrowingHistogram, bin_edges, weight_distributions
from quantizers.errors import QuantizationError
from quantizers.numerics import dequantize, quantize
from quantizers.schema import Granularity, QuantParams

finite = st.floats(-1e6, 1e6, allow_subnormal=False)


def grid(scale: float, zero_point: int, qmin: int = -128, qmax: int = 127) -> QuantParams:
    return QuantParams(np.array([scale]), np.array([zero_point]), qmin, qmax, "int8")


@settings(deadline=None)
@given(finite, finite, st.none() | st.tuples(st.floats(1e-5, 1e4), st.integers(-128, 127)))
def test_edges_rise_and_cover_any_range(one: float, other: float, made: tuple[float, int] | None) -> None:
    low, high = min(one, other), max(one, other)
    edges = bin_edges(low, high, None if made is None else grid(*made))
    assert (np.diff(edges) > 0).all()
    slack = 1e-9 * max(abs(low), abs(high))
    assert edges[0] <= low + slack
    assert edges[-1] >= high - slack
    assert 1 <= len(edges) - 1 <= MOST_BINS


def test_bins_of_a_grid_hold_whole_codes() -> None:
    params = grid(0.1, 3)
    edges = bin_edges(-13.1, 12.4, params)
    steps = edges / 0.1 + 3
    np.testing.assert_allclose(steps % 1, 0.5, atol=1e-6)
    assert len(set(np.rint(np.diff(steps)))) == 1


@pytest.mark.parametrize(("scale", "zero_point"), [(0.1, 3), (0.0078125, 0), (1 / 3, -128)])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_evenly_used_codes_show_no_comb(scale: float, zero_point: int, bits: int) -> None:
    qmin, qmax = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    params = grid(scale, max(zero_point, qmin), qmin, qmax)
    values = dequantize(np.arange(qmin, qmax + 1), params).astype(np.float32)
    counts, _ = np.histogram(values, bin_edges(float(values.min()), float(values.max()), params))
    # The last bin may reach beyond the last code; all others hold the same number.
    assert len(set(counts[:-1].tolist())) <= 1
    assert counts.sum() == values.size


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_weights_histograms_count_every_element(make_layer, granularity: Granularity, bits: int) -> None:
    weight = (layer := make_layer(shape=(6, 5, 3), granularity=granularity, bits=bits)).weight
    arrays = weight_distributions([layer])
    for what in ("float", "quantized", "codes"):
        assert arrays[f"conv1|weight|{what}"].dtype == np.int64
        assert arrays[f"conv1|weight|{what}"].sum() == weight.codes.size
    codes = arrays["conv1|weight|codes"]
    assert len(codes) == weight.params.qmax - weight.params.qmin + 1
    assert [codes[code - weight.params.qmin] for code in (-1, 0, 1)] == [(weight.codes == code).sum() for code in (-1, 0, 1)]
    edges = arrays["conv1|weight|edges"]
    assert arrays["conv1|weight|quantized"].tolist() == np.histogram(dequantize(weight.codes, weight.params), edges)[0].tolist()


def test_a_grid_shared_by_all_is_told_once(make_layer) -> None:
    layer = make_layer(granularity=Granularity.PER_TENSOR)
    arrays = weight_distributions([layer])
    scale = layer.weight.params.scale[0]
    assert arrays["conv1|weight|clip"].tolist() == [-127 * scale, 127 * scale]
    assert "conv1|weight|clip_low" not in arrays


def test_grids_of_channels_are_told_by_channel(make_layer) -> None:
    layer = make_layer(shape=(4, 3, 2))
    arrays = weight_distributions([layer])
    reference, scale = layer.weight.reference, layer.weight.params.scale
    assert arrays["conv1|weight|channel_axis"] == 0
    assert arrays["conv1|weight|channel_min"].tolist() == reference.min(axis=(1, 2)).tolist()
    assert arrays["conv1|weight|channel_max"].tolist() == reference.max(axis=(1, 2)).tolist()
    np.testing.assert_array_equal(arrays["conv1|weight|clip_low"], -127 * scale)
    np.testing.assert_array_equal(arrays["conv1|weight|clip_high"], 127 * scale)
    assert "conv1|weight|clip" not in arrays


def test_of_a_channels_groups_the_furthest_clip_is_told(make_layer) -> None:
    layer = make_layer(shape=(4, 7), granularity=Granularity.PER_GROUP)
    arrays = weight_distributions([layer])
    furthest = layer.weight.params.scale.reshape(4, 3).max(axis=1) * 127
    np.testing.assert_array_equal(arrays["conv1|weight|clip_high"], furthest)
    np.testing.assert_array_equal(arrays["conv1|weight|clip_low"], -furthest)


@pytest.mark.parametrize(
    ("op", "shape", "axis"),
    [("CONV_2D", (1, 3, 3, 6), 0), ("DEPTHWISE_CONV_2D", (1, 3, 3, 6), 3), ("aten.conv2d", (6, 1, 3, 3), 0)],
)
def test_output_channels_are_found_without_a_grid(make_layer, op: str, shape: tuple[int, ...], axis: int) -> None:
    arrays = weight_distributions([make_layer(shape=shape, dtype="float16", op=op)])
    assert arrays["conv1|weight|channel_axis"] == axis
    assert arrays["conv1|weight|channel_min"].shape == (shape[axis],)
    assert "conv1|weight|codes" not in arrays
    assert len(arrays["conv1|weight|edges"]) == BINS + 1


def test_a_weight_of_one_value_has_a_histogram(make_layer) -> None:
    arrays = weight_distributions([make_layer(reference=np.full((2, 3), 0.25, np.float32))])
    assert arrays["conv1|weight|float"].sum() == arrays["conv1|weight|quantized"].sum() == 6


def test_a_weight_that_is_not_finite_is_refused(make_layer) -> None:
    with pytest.raises(QuantizationError, match="weight of conv1"):
        weight_distributions([make_layer(reference=np.array([[1.0, np.inf]], np.float32), dtype="float32")])


@pytest.mark.parametrize("params", [None, grid(0.05, -20), grid(2e-5, 0, -32768, 32767)])
@pytest.mark.parametrize("growth", [1.0, 50.0, 1e5])
def test_outputs_are_counted_in_one_pass_on_one_set_of_bins(params: QuantParams | None, growth: float) -> None:
    rng = np.random.default_rng(0)
    before = [
        spread * rng.standard_normal((n, 4, 2)).astype(np.float32)
        for spread, n in zip((3, 3 * growth, 1), (5, 5, 3), strict=True)
    ]
    after = [one if params is None else dequantize(quantize(one, params), params).astype(np.float32) for one in before]
    histogram = GrowingHistogram(("float", "quantized"), params)
    for one, other in zip(before, after, strict=True):
        both = np.stack([one, other])
        histogram.add({"float": one, "quantized": other}, float(both.min()), float(both.max()))
    arrays = histogram.arrays()
    assert len(arrays["edges"]) <= MOST_BINS + 1
    assert (np.diff(arrays["edges"]) > 0).all()
    for what, values in (("float", before), ("quantized", after)):
        assert arrays[what].sum() == 13 * 4 * 2
        assert arrays[what].tolist() == np.histogram(np.concatenate(values), arrays["edges"])[0].tolist()


def test_codes_of_an_output_lie_in_the_middle_of_their_bins() -> None:
    params = grid(0.1, 3, -8, 7)
    values = dequantize(np.arange(-8, 8), params).astype(np.float32)
    histogram = GrowingHistogram(("quantized",), params)
    histogram.add({"quantized": values}, float(values.min()), float(values.max()))
    arrays = histogram.arrays()
    assert arrays["quantized"].tolist() == [1] * 16
    np.testing.assert_allclose((arrays["edges"][:-1] + arrays["edges"][1:]) / 2, values, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-30, 1e30])
def test_an_output_of_one_value_has_a_histogram(value: float) -> None:
    values = np.full((2, 3), value, np.float32)
    histogram = GrowingHistogram(("float",), None)
    histogram.add({"float": values}, float(values.min()), float(values.max()))
    assert histogram.arrays()["float"].sum() == 6


def test_arrays_are_stored_without_pickles(make_layer) -> None:
    arrays, file = weight_distributions([make_layer("block/conv"), make_layer("dense", (3, 4))]), BytesIO()
    np.savez_compressed(file, **arrays)
    with np.load(BytesIO(file.getvalue()), allow_pickle=False) as loaded:
        assert set(loaded.files) == set(arrays)
        assert all((loaded[key] == arrays[key]).all() for key in arrays)
