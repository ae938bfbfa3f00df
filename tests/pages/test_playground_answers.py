"""What the playground draws and says of a choice, against the tensor itself."""

import numpy as np
import pytest

from pages._ui.playground_answers import MARGIN, Axis, Grain, drawing, finding, finer, projected_bytes
from quantizers import sketch_file
from quantizers.schema import Scheme
from quantizers.sketch import Estimate, Question, estimate
from quantizers.sketch_build import TensorSketches, build_sketches
from quantizers.sketch_file import SketchFile, TensorSummary

X = np.random.default_rng(0).normal(0.1, 1, (8, 70)).astype(np.float32)


@pytest.fixture(scope="module")
def tensor() -> TensorSketches:
    return build_sketches({"w": X})["w"]


@pytest.fixture(scope="module")
def summary(tensor: TensorSketches, tmp_path_factory: pytest.TempPathFactory) -> TensorSummary:
    path = tmp_path_factory.mktemp("sketches") / "w.npz"
    sketch_file.write(path, {"w": tensor})
    return SketchFile(path).summary("w")


@pytest.mark.parametrize("grain", [Grain.TENSOR, Grain.CHANNEL, Grain.GROUP_32])
@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("clip", [(1.0, 1.0), (0.5, 0.5), (0.3, 0.8)])
def test_marks_and_clips_are_each_others_inverse(
    tensor: TensorSketches, grain: Grain, scheme: Scheme, clip: tuple[float, float]
) -> None:
    axis = Axis.of(tensor.sketches[grain.key(scheme)], grain, scheme)
    drawn = drawing(tensor.sketches[grain.key(scheme)], axis, Question(4, scheme, clip))
    wanted = clip if scheme is Scheme.AFFINE else (max(clip), max(clip))
    assert axis.clip(drawn.marks) == pytest.approx(wanted)
    assert drawn.mirrored is (scheme is Scheme.SYMMETRIC)
    if drawn.mirrored:
        assert sum(drawn.marks) == pytest.approx(2 * drawn.zero)


def test_marks_dragged_too_far_stay_on_the_range(tensor: TensorSketches) -> None:
    axis = Axis.of(tensor.sketches["per_tensor"], Grain.TENSOR, Scheme.AFFINE)
    assert axis.clip((-1.0, 2.0)) == (1.0, 1.0)
    below, above = axis.clip((0.9, 0.1))
    assert 0 < below < 0.01
    assert 0 < above < 0.01


def test_the_histogram_spans_the_values_and_the_grid_its_codes(tensor: TensorSketches) -> None:
    sketch = tensor.sketches["per_tensor"]
    axis = Axis.of(sketch, Grain.TENSOR, Scheme.AFFINE)
    drawn = drawing(sketch, axis, Question(3, Scheme.AFFINE))
    assert drawn.bars[0][0] == pytest.approx(MARGIN, abs=1e-4)
    assert sum(drawn.bars[-1][:2]) == pytest.approx(1 - MARGIN, abs=0.01)
    assert max(height for _, _, height in drawn.bars) == 1.0
    assert len(drawn.levels) == 8
    assert drawn.zero in [pytest.approx(level, abs=1e-4) for level in drawn.levels]
    assert drawing(sketch, axis, Question(6, Scheme.AFFINE)).levels == []


@pytest.mark.parametrize(
    ("grain", "scheme", "scales"),
    [
        (Grain.TENSOR, Scheme.SYMMETRIC, 4),
        (Grain.CHANNEL, Scheme.SYMMETRIC, 8 * 4),
        (Grain.GROUP_32, Scheme.SYMMETRIC, 8 * 3 * 4),
        (Grain.CHANNEL, Scheme.AFFINE, 8 * 12),
    ],
)
def test_the_projected_size_counts_codes_and_scales(summary: TensorSummary, grain: Grain, scheme: Scheme, scales: int) -> None:
    assert projected_bytes(summary, grain, Question(4, scheme)) == X.size / 2 + scales


def test_the_finding_names_the_error_its_cause_and_a_cure(tensor: TensorSketches) -> None:
    now = estimate(tensor.sketches["per_tensor"], Question(4, clip=(0.2, 0.2)))
    better = estimate(tensor.sketches["per_channel_symmetric"], Question(4))
    text = finding("conv1", Grain.TENSOR, Question(4, clip=(0.2, 0.2)), now, (Grain.CHANNEL, better))
    assert "At 4 bits per tensor, the error of **conv1**" in text
    assert "is clipping: the marks are too close" in text
    assert "The same bits per channel would give" in text
    exact = Estimate(None, True, 0.0, 1.0, 0.0, 0.0, 1.0)
    assert "without any error" in finding("conv1", Grain.GROUP_32, Question(1), exact, None)


def test_the_next_finer_sharing_is_one_there_is_a_sketch_for(summary: TensorSummary) -> None:
    assert finer(Grain.TENSOR, summary, Scheme.SYMMETRIC) is Grain.CHANNEL
    assert finer(Grain.CHANNEL, summary, Scheme.SYMMETRIC) is Grain.GROUP_64  # channels of 70 have no groups of 128
    assert finer(Grain.GROUP_32, summary, Scheme.AFFINE) is None


@pytest.mark.parametrize(
    ("granularity", "group_size", "grain"),
    [
        ("per_tensor", None, Grain.TENSOR),
        ("per_channel", None, Grain.CHANNEL),
        ("per_group", 100, Grain.GROUP_128),
        (None, None, Grain.TENSOR),
    ],
)
def test_a_run_begins_at_the_nearest_sharing(granularity: str | None, group_size: int | None, grain: Grain) -> None:
    assert Grain.of(granularity, group_size) is grain
