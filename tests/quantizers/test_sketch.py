"""What a sketch answers, against the exact mathematics on the tensor itself."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantizers import sketch_file
from quantizers.errors import BadData
from quantizers.numerics import TensorError, min_max_params, quantization_error, quantize
from quantizers.schema import Granularity, Scheme
from quantizers.sketch import Estimate, Question, Sketch, estimate, estimates, merge, sketch_key
from quantizers.sketch_build import PERCENTILES, StreamingSketch, TensorSketches, build_sketches
from quantizers.sketch_file import SketchFile

GROUP = 32
WHOLE, CHANNEL, GROUPED = Granularity.PER_TENSOR, Granularity.PER_CHANNEL, Granularity.PER_GROUP
CLIPS = [(1.0, 1.0), (0.7, 0.7), (0.2, 0.2), (0.4, 0.6)]
TOLERANCE_DB = {Scheme.SYMMETRIC: 0.05, Scheme.AFFINE: 0.3}
"""At 8 bits and fewer. An affine grid's classes stand for channels of slightly different ranges."""
FINE_TOLERANCE_DB = 0.5
"""Above 8 bits, where steps are finer than bins."""
Tensor = NDArray[np.float32]


def random(name: str) -> Tensor:
    generator = np.random.default_rng(7)
    made = {
        "heavy": generator.standard_t(4, (96, 700)) * generator.lognormal(size=(96, 1)),
        "shifted": generator.normal(0.3, 1, (64, 577)),
        "positive": np.abs(generator.normal(size=(48, 600))),
        "convolution": generator.laplace(size=(64, 32, 3, 3)),
        "uniform": generator.uniform(-1, 1, (100, 500)),
    }[name]
    return made.astype(np.float32)


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[Tensor, TensorSketches]]:
    tensors = {name: random(name) for name in ("heavy", "shifted", "positive", "convolution", "uniform")}
    sketches = build_sketches(tensors, groups=(GROUP,))
    return {name: (tensor.reshape(len(tensor), -1), sketches[name]) for name, tensor in tensors.items()}


def exact(x: Tensor, granularity: Granularity, question: Question) -> TensorError:
    params = min_max_params(
        x,
        question.bits,
        scheme=question.scheme,
        granularity=granularity,
        group_size=GROUP,
        clip=question.clip,
        power_of_two=question.power_of_two,
    )
    return quantization_error(x, quantize(x, params), params)


def sketched(tensor: TensorSketches, granularity: Granularity, scheme: Scheme) -> Sketch:
    return tensor.sketches[sketch_key(granularity, scheme, GROUP)]


def assert_close(found: Estimate, right: TensorError, decibels: float) -> None:
    assert found.sqnr_db == pytest.approx(right.sqnr_db, abs=decibels)
    assert 10 * np.log10(found.mse / right.mse) == pytest.approx(0, abs=decibels)
    assert found.cosine == pytest.approx(right.cosine, abs=0.006)
    assert found.clipping_share == pytest.approx(right.clipping_share, abs=0.03)
    assert found.rmse_per_step == pytest.approx(right.rmse_per_step, rel=0.05)


@pytest.mark.parametrize("name", ["heavy", "shifted", "positive", "convolution", "uniform"])
@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("clip", CLIPS)
def test_any_grid_of_8_bits_and_fewer_is_answered(
    built: dict[str, tuple[Tensor, TensorSketches]],
    name: str,
    granularity: Granularity,
    scheme: Scheme,
    clip: tuple[float, float],
) -> None:
    x, tensor = built[name]
    # One affine bit either covers a side or does not: nothing that an average over channels could tell.
    for bits in (1, 2, 4, 8) if scheme is Scheme.SYMMETRIC else (2, 4, 8):
        question = Question(bits, scheme, clip)
        found = estimate(sketched(tensor, granularity, scheme), question)
        assert_close(found, exact(x, granularity, question), TOLERANCE_DB[scheme])


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("scheme", list(Scheme))
def test_grids_finer_than_bins_are_answered(
    built: dict[str, tuple[Tensor, TensorSketches]], granularity: Granularity, scheme: Scheme
) -> None:
    x, tensor = built["convolution"]
    for bits in (10, 12, 16):
        found = estimate(sketched(tensor, granularity, scheme), Question(bits, scheme))
        assert found.sqnr_db == pytest.approx(exact(x, granularity, Question(bits, scheme)).sqnr_db, abs=FINE_TOLERANCE_DB)
        assert found.levels_used is None


def test_power_of_two_scales_are_answered(built: dict[str, tuple[Tensor, TensorSketches]]) -> None:
    x, tensor = built["heavy"]
    for scheme in Scheme:
        question = Question(6, scheme, (0.5, 0.5), power_of_two=True)
        assert_close(estimate(sketched(tensor, WHOLE, scheme), question), exact(x, WHOLE, question), TOLERANCE_DB[scheme])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_used_are_counted(built: dict[str, tuple[Tensor, TensorSketches]], bits: int) -> None:
    for name, (x, tensor) in built.items():
        found = estimate(sketched(tensor, WHOLE, Scheme.SYMMETRIC), Question(bits)).levels_used
        right = exact(x, WHOLE, Question(bits)).levels_used
        assert found == pytest.approx(right, abs=0.05), name


def test_a_set_of_grids_is_answered_at_once(built: dict[str, tuple[Tensor, TensorSketches]]) -> None:
    sketch = sketched(built["heavy"][1], WHOLE, Scheme.SYMMETRIC)
    questions = [Question(bits) for bits in (2, 4, 8)]
    assert estimates(sketch, questions) == [estimate(sketch, question) for question in questions]


def order_statistic(x: Tensor, percent: float) -> float:
    """The smallest value that at least so many percent of all values do not exceed."""
    return float(np.sort(x, axis=None)[int(np.ceil(x.size * percent / 100)) - 1])


def test_percentiles_are_exact(built: dict[str, tuple[Tensor, TensorSketches]]) -> None:
    for name, (x, tensor) in built.items():
        found = sketched(tensor, WHOLE, Scheme.SYMMETRIC).percentiles
        assert set(found) == set(PERCENTILES)
        for percent, (below, above, either) in found.items():
            assert either * float(np.abs(x).max()) == pytest.approx(order_statistic(np.abs(x), percent), rel=1e-6), name
            assert above * float(x.max()) == pytest.approx(order_statistic(x, percent), rel=1e-6)
            if name != "positive":
                assert below * float(-x.min()) == pytest.approx(order_statistic(-x, percent), rel=1e-6)
        by_row = sketched(tensor, CHANNEL, Scheme.SYMMETRIC).percentiles[99.9][2]
        scaled = np.abs(x) / np.abs(x).max(axis=1, keepdims=True)
        assert by_row == pytest.approx(order_statistic(scaled, 99.9), rel=1e-6)


small = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    elements=st.floats(-1e3, 1e3, width=32),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(small, st.integers(1, 8), st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from([1.0, 1e-30, 1e30]))
def test_any_tensor_has_an_answer_within_what_its_bins_allow(x: Tensor, bits: int, part: float, size: float) -> None:
    x = (x * np.float32(size)).astype(np.float32)
    tensor = build_sketches({"w": x}, groups=())["w"]
    for granularity in (WHOLE, CHANNEL):
        question = Question(bits, clip=(part, part))
        found, right = estimate(sketched(tensor, granularity, Scheme.SYMMETRIC), question), exact(x, granularity, question)
        # A value may be anywhere in its bin: at worst 1/4096 of the range from where it is counted.
        root, slack = np.sqrt(right.mse), float(np.abs(x).max()) / 2048 + 1e-37
        assert abs(np.sqrt(found.mse) - root) <= slack
        assert 0 <= found.clipping_share <= 1
        assert found.sqnr_db is None or np.isfinite(found.sqnr_db)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(small, st.sampled_from([1e-3, 1.0, 70.0]), st.integers(1, 5))
def test_batches_in_any_order_give_the_sketch_of_all(x: Tensor, factor: float, batches: int) -> None:
    parts = [part for part in np.array_split(x.ravel(), batches) if part.size]
    parts[-1] = parts[-1] * np.float32(factor)
    whole = build_sketches({"all": np.concatenate(parts)}, groups=())["all"].sketches[WHOLE.value]
    for order in (parts, parts[::-1]):
        streaming = StreamingSketch()
        for part in order:
            streaming.add("activation", part)
        merged = streaming.sketch
        assert merged is not None
        assert merged.unit.tolist() == whole.unit.tolist()
        assert merged.reach.tolist() == whole.reach.tolist()
        assert merged.place.tolist() == whole.place.tolist()
        assert merged.count.tolist() == whole.count.tolist()
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(merged.variance, whole.variance, atol=1e-12)


def test_a_stream_takes_constant_memory_and_answers_like_the_whole() -> None:
    generator, streaming, seen = np.random.default_rng(3), StreamingSketch(), []
    for batch in range(30):
        values = np.maximum(generator.normal(size=40_000) * (1 + batch % 7), 0).astype(np.float32)
        seen.append(values)
        streaming.add("relu", values)
    x, sketch = np.concatenate(seen), streaming.sketch
    assert sketch is not None
    assert sketch.place.size <= sketch.bins
    for question in (Question(8), Question(8, Scheme.AFFINE), Question(4, Scheme.AFFINE, (1.0, 0.6))):
        assert_close(estimate(sketch, question), exact(x, WHOLE, question), 0.05)


def test_only_sketches_of_whole_tensors_merge(built: dict[str, tuple[Tensor, TensorSketches]]) -> None:
    tensor = built["heavy"][1]
    with pytest.raises(BadData, match="can be merged"):
        merge(sketched(tensor, CHANNEL, Scheme.AFFINE), sketched(tensor, WHOLE, Scheme.AFFINE))


def test_a_file_gives_back_what_was_written(built: dict[str, tuple[Tensor, TensorSketches]], tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    sketch_file.write(path, {name: tensor for name, (_, tensor) in built.items()})
    read = SketchFile(path)
    assert list(read.sizes) == list(built)
    for name, (x, tensor) in built.items():
        summary = read.summary(name)
        assert (summary.size, summary.shape) == (x.size, random(name).shape)
        assert set(summary.sketches) == set(tensor.sketches)
        assert summary.channel_high.tolist() == x.max(axis=1).tolist()
        assert summary.sqnr_db.tolist() == tensor.errors.sqnr_db.tolist()
        for key, sketch in tensor.sketches.items():
            question = Question(4, Scheme.AFFINE if "affine" in key else Scheme.SYMMETRIC)
            assert estimate(read.sketch(name, key), question) == estimate(sketch, question)
            assert read.sketch(name, key).percentiles == dict(sketch.percentiles)


def test_what_is_no_file_of_sketches_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("nothing")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    for name in ("text.npz", "other.npz", "missing.npz"):
        with pytest.raises(BadData, match="no file of sketches"):
            SketchFile(tmp_path / name)


# ── tensors that are not what one hopes for ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_has_no_range_is_refused_by_name(value: float) -> None:
    x = np.ones((3, 50), np.float32)
    x[1, 7] = value
    for refused in (x, np.full_like(x, value)):
        with pytest.raises(BadData, match="dense holds NaN or infinity"):
            build_sketches({"dense": refused})
        with pytest.raises(BadData, match="dense holds NaN or infinity"):
            StreamingSketch().add("dense", refused)


def test_an_empty_tensor_is_refused_by_name() -> None:
    with pytest.raises(BadData, match="dense has no values"):
        build_sketches({"dense": np.zeros((3, 0))})


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0, 1e-42, 3e38])
@pytest.mark.parametrize("shape", [(), (1,), (4, 300)])
def test_one_value_everywhere_is_represented_exactly(value: float, shape: tuple[int, ...]) -> None:
    tensor = build_sketches({"w": np.full(shape, value, np.float32)})["w"]
    for key, sketch in tensor.sketches.items():
        scheme = Scheme.AFFINE if "affine" in key else Scheme.SYMMETRIC
        found = estimate(sketch, Question(8, scheme))
        assert sketch.place.size <= 2
        assert found.exact, key
        assert (found.sqnr_db, found.mse, found.clipping_share) == (None, 0.0, 0.0)


def test_channels_of_zeros_and_groups_that_do_not_divide() -> None:
    x = np.random.default_rng(5).normal(size=(6, 45)).astype(np.float32)
    x[2] = 0
    tensor = build_sketches({"w": x}, groups=(GROUP,))["w"]
    for granularity in (CHANNEL, GROUPED):
        for scheme in Scheme:
            found = estimate(sketched(tensor, granularity, scheme), Question(4, scheme))
            assert found.sqnr_db == pytest.approx(exact(x, granularity, Question(4, scheme)).sqnr_db, abs=0.5)


def test_a_group_as_large_as_a_channel_is_left_to_the_channel() -> None:
    tensor = build_sketches({"w": np.ones((4, 32), np.float32)}, groups=(32, 64))["w"]
    assert not [key for key in tensor.sketches if "group" in key]


def test_a_hundred_million_values() -> None:
    part = np.random.default_rng(6).standard_t(5, 100_000).astype(np.float32)
    x = np.broadcast_to(part, (1000, part.size))
    tensor = build_sketches({"w": x}, groups=())["w"]
    sketch = tensor.sketches[WHOLE.value]
    assert sketch.size == 100_000_000
    assert_close(estimate(sketch, Question(4)), exact(part, WHOLE, Question(4)), 0.02)
    assert sketch.percentiles[99.9][2] * float(np.abs(part).max()) == pytest.approx(
        order_statistic(np.abs(part), 99.9), rel=1e-6
    )


@pytest.mark.parametrize("question", [Question(0), Question(33), Question(8, clip=(0.0, 1.0)), Question(8, clip=(np.nan, 1.0))])
def test_senseless_grids_are_refused(built: dict[str, tuple[Tensor, TensorSketches]], question: Question) -> None:
    with pytest.raises(BadData):
        estimate(sketched(built["heavy"][1], WHOLE, Scheme.SYMMETRIC), question)
