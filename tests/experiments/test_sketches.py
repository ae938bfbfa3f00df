"""Sketches in the data directory: built once by a process of their own, found again, built anew for other weights."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from experiments import sketches
from experiments.library import EXAMPLES
from models import mine, zoo
from quantizers import sketch_file
from quantizers.sketch_build import build_sketches

ROOT = Path(__file__).parents[2]
MODEL = "mnist-mlp"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path))
    yield tmp_path
    for builder in sketches._builders.values():
        builder.wait(60)
    sketches.reap()


def wait(model_id: str) -> sketch_file.SketchFile:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        sketches.ensure(model_id)
        if found := sketches.find(model_id):
            return found
        time.sleep(0.1)
    raise AssertionError((sketches.folder() / "builder.log").read_text())


def test_a_model_is_sketched_by_another_process_and_found_again() -> None:
    assert sketches.find(MODEL) is None
    file = wait(MODEL)
    model = zoo.load(MODEL)
    assert list(file.sizes) == list(model.layer_names)
    assert file.path.name == f"{model.digest}.npz"
    for builder in sketches._builders.values():
        assert builder.wait(60) == 0
    assert sketches.progress(MODEL) is None
    assert not sketches.is_building(MODEL)


@pytest.mark.adapter
@pytest.mark.parametrize("form", ["mine.onnx", "mine.tflite"])
def test_a_file_of_ones_own_is_sketched_as_the_model_it_was_made_of(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    if form == "mine.onnx":
        path.write_bytes(zoo.load(MODEL).onnx_model().SerializeToString())
    else:
        path.write_bytes((EXAMPLES / "fashion-cnn--tflite--float32" / "model.tflite").read_bytes())
    origin = MODEL if form == "mine.onnx" else "fashion-cnn"
    own, original = wait(mine.add(path, form).id), wait(origin)
    assert list(own.sizes.values()) == list(original.sizes.values())
    for one, other in zip(own.sizes, original.sizes, strict=True):
        # Channels lie in the same order, and the values of each are the same, whatever order the file has them in.
        assert own.summary(one).channel_low == pytest.approx(original.summary(other).channel_low, rel=1e-5)
        assert own.summary(one).channel_high == pytest.approx(original.summary(other).channel_high, rel=1e-5)


def test_weights_that_changed_are_sketched_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    file = sketches.folder() / "old.npz"
    sketch_file.write(file, build_sketches({"dense": np.eye(3)}))
    sketches.keep(MODEL, "Old", file, sketches.made_of(MODEL))
    assert sketches.find(MODEL) is not None
    monkeypatch.setattr(sketches, "VERSION", -1)
    assert sketches.find(MODEL) is None


def test_what_is_kept_is_offered_beside_the_zoo() -> None:
    file = sketches.folder() / "made.npz"
    sketch_file.write(file, build_sketches({"dense": np.eye(3)}))
    sketches.keep("made", "Made here", file)
    assert sketches.titles()["made"] == "Made here"
    assert MODEL in sketches.titles()
    found = sketches.find("made")
    assert found is not None
    assert list(found.sizes) == ["dense"]


def test_a_failure_is_told_and_not_repeated() -> None:
    sketches.ensure("nobody")
    assert sketches._builders["nobody"].wait(60) == 0
    seen = sketches.progress("nobody")
    assert seen is not None
    assert seen.error is not None
    assert "nobody" in seen.error
    sketches.ensure("nobody")
    assert sketches._builders == {}
    sketches.report("nobody", None)
    assert sketches.progress("nobody") is None


def test_damaged_notes_and_files_count_as_none(home: Path) -> None:
    (sketches.folder() / f"{MODEL}.json").write_text("{")
    assert sketches.find(MODEL) is None
    (sketches.folder() / f"{MODEL}.building").write_text('{"other": 1}')
    assert sketches.progress(MODEL) is None
    sketches.keep(MODEL, "Gone", sketches.folder() / "gone.npz", sketches.made_of(MODEL))
    assert sketches.find(MODEL) is None


def test_pages_can_ask_without_loading_anything_heavy() -> None:
    code = "import sys, experiments.sketches, quantizers.sketch_clipping; print(*(m.partition('.')[0] for m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert not {"numba", "llvmlite", "torch", "tensorflow", "onnxruntime"} & set(run.stdout.split())
