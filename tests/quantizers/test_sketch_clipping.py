"""The clipping rules: none beaten by an exhaustive search on the tensor itself, or by another implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantizers.errors import BadData, UnknownName
from quantizers.numerics import WHOLE_RANGE, min_max_params, quantization_error, quantize
from quantizers.schema import Granularity, Scheme
from quantizers.sketch import Question, Sketch, estimate, sketch_key
from quantizers.sketch_build import build_sketches
from quantizers.sketch_clipping import Clipping, best_clip

REGRET_DB = 0.05
"""How much worse than the best of an exhaustive search a suggestion may be."""


@pytest.fixture(scope="module")
def heavy() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_t(3, (64, 900)).astype(np.float32)


def whole(x: NDArray[np.float32]) -> Sketch:
    return build_sketches({"w": x}, groups=())["w"].sketches[sketch_key(Granularity.PER_TENSOR, Scheme.SYMMETRIC)]


def mse(x: NDArray[np.float32], bits: int, scheme: Scheme, granularity: Granularity, clip: tuple[float, float]) -> float:
    params = min_max_params(x, bits, scheme=scheme, granularity=granularity, clip=clip)
    return quantization_error(x, quantize(x, params), params).mse


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("granularity", [Granularity.PER_TENSOR, Granularity.PER_CHANNEL])
def test_no_common_part_has_a_notably_smaller_mse(heavy: NDArray[np.float32], bits: int, granularity: Granularity) -> None:
    sketch = build_sketches({"w": heavy}, groups=())["w"].sketches[sketch_key(granularity, Scheme.SYMMETRIC)]
    chosen = best_clip(sketch, bits, Scheme.SYMMETRIC, Clipping.MSE)
    ours = mse(heavy, bits, Scheme.SYMMETRIC, granularity, chosen)
    least = min(mse(heavy, bits, Scheme.SYMMETRIC, granularity, (part, part)) for part in np.geomspace(0.005, 1, 60))
    assert 10 * np.log10(ours / least) < REGRET_DB


def test_an_affine_grid_clips_each_side_apart() -> None:
    generator = np.random.default_rng(2)
    x = np.concatenate([generator.normal(size=20_000), [9.0], generator.uniform(-1, 0, 5000)]).astype(np.float32)
    below, above = best_clip(whole(x), 4, Scheme.AFFINE, Clipping.MSE)
    ours = mse(x, 4, Scheme.AFFINE, Granularity.PER_TENSOR, (below, above))
    alike = min(mse(x, 4, Scheme.AFFINE, Granularity.PER_TENSOR, (part, part)) for part in np.geomspace(0.05, 1, 60))
    assert above < below
    assert ours < alike


def test_one_bit_is_best_at_the_mean_size(heavy: NDArray[np.float32]) -> None:
    part, _ = best_clip(whole(heavy), 1, Scheme.SYMMETRIC, Clipping.MSE)
    assert part * np.abs(heavy).max() == pytest.approx(np.abs(heavy).mean(), rel=0.02)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(2, 8), st.sampled_from(Scheme), st.integers(0, 1000), st.sampled_from([2.5, 8.0, 100.0]))
def test_the_suggestion_is_never_worse_than_the_whole_range(bits: int, scheme: Scheme, seed: int, tail: float) -> None:
    sketch = whole(np.random.default_rng(seed).standard_t(tail, (5, 200)).astype(np.float32))
    chosen = best_clip(sketch, bits, scheme, Clipping.MSE)
    assert estimate(sketch, Question(bits, scheme, chosen)).mse <= estimate(sketch, Question(bits, scheme)).mse


def test_a_percentile_covers_what_it_says(heavy: NDArray[np.float32]) -> None:
    part, other = best_clip(whole(heavy), 8, Scheme.SYMMETRIC, Clipping.PERCENTILE, percentile=99.0)
    assert part == other
    inside = np.mean(np.abs(heavy) <= part * np.abs(heavy).max() * (1 + 1e-6))
    assert inside == pytest.approx(0.99, abs=1e-4)
    below, above = best_clip(whole(heavy), 8, Scheme.AFFINE, Clipping.PERCENTILE, percentile=99.9)
    assert np.mean(heavy > above * heavy.max() * (1 + 1e-6)) == pytest.approx(0.001, abs=1e-4)
    assert np.mean(heavy < below * heavy.min() * (1 + 1e-6)) == pytest.approx(0.001, abs=1e-4)


def test_an_unknown_percentile_and_one_of_zeros_are_refused(heavy: NDArray[np.float32]) -> None:
    with pytest.raises(UnknownName, match="98"):
        best_clip(whole(heavy), 8, Scheme.SYMMETRIC, Clipping.PERCENTILE, percentile=98)
    sparse = np.zeros(10_000, np.float32)
    sparse[:5] = 1.0
    with pytest.raises(BadData, match="lie at zero"):
        best_clip(whole(sparse), 8, Scheme.SYMMETRIC, Clipping.PERCENTILE, percentile=99.9)


@pytest.mark.adapter
@pytest.mark.parametrize("tail", [3.0, 6.0, 1000.0])
def test_entropy_clips_about_where_onnx_runtime_does(tail: float) -> None:
    from onnxruntime.quantization.calibrate import HistogramCollector

    x = np.random.default_rng(4).standard_t(tail, 60_000).astype(np.float32)
    reach = float(np.abs(x).max())
    counts, edges = np.histogram(x, bins=2047, range=(-reach, reach))
    collector = HistogramCollector("entropy", True, 2047, 255, 99.9, "same")
    _, theirs = collector.get_entropy_threshold((counts, edges, -reach, reach), 255)[:2]
    ours, _ = best_clip(whole(x), 8, Scheme.SYMMETRIC, Clipping.ENTROPY)
    assert ours * reach == pytest.approx(float(theirs), rel=0.25)


@pytest.mark.parametrize("rule", list(Clipping))
@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("value", [0.0, 0.5, -2.0])
def test_one_value_everywhere_is_covered(rule: Clipping, scheme: Scheme, value: float) -> None:
    sketch = whole(np.full((3, 40), value, np.float32))
    below, above = best_clip(sketch, 8, scheme, rule)
    assert estimate(sketch, Question(8, scheme, (below, above))).exact


def test_min_max_covers_everything(heavy: NDArray[np.float32]) -> None:
    assert best_clip(whole(heavy), 8, Scheme.AFFINE, Clipping.MIN_MAX) == WHOLE_RANGE
