"""People's own .npz files: what is usable is used, and everything else is refused in words, however broken the file."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import datasets, own_data, zoo
from models.datasets import Split
from quantizers.errors import BadData

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 28, 28), np.uint8)


def saved(tmp_path: Path, **arrays: Any) -> str:
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **arrays)
    return str(path)


def test_grey_pixels_with_labels_are_taken(tmp_path: Path) -> None:
    data = datasets.load(saved(tmp_path, x=PIXELS, y=np.arange(10, dtype=np.uint8)))
    assert data.x.shape == (10, 28, 28, 1)
    assert data.info.splits == {"calibration": 2, "test": 8}
    calibration, test = data.split(Split.CALIBRATION), data.split(Split.TEST)
    assert not set(calibration.indices) & set(test.indices)
    assert test.y is not None
    assert test.y.dtype == np.int64
    np.testing.assert_array_equal(test.y, test.indices)
    datasets.check_fits(test, next(info for info in zoo.catalogue() if info.id == "mnist-cnn"))


def test_floats_are_kept_as_float32_and_not_preprocessed_again(tmp_path: Path) -> None:
    data = datasets.load(saved(tmp_path, x=PIXELS[..., np.newaxis] / 255))
    assert data.x.dtype == np.float32
    assert data.y is None
    assert zoo.catalogue()[0].preprocess(data.x) is data.x


def test_the_digest_names_the_content_and_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = datasets.load(saved(tmp_path, x=PIXELS)).info.digest
    assert datasets.load(saved(tmp_path / "other", x=PIXELS)).info.digest == one
    assert datasets.load(saved(tmp_path, x=PIXELS[::-1])).info.digest != one


def with_value(value: float) -> Any:
    x = PIXELS.astype(np.float32)
    x[3, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS}, "no array called x; it holds images"),
        ({}, "holds nothing"),
        ({"x": with_value(np.nan)}, "1 of 10 samples hold NaN.*number 3"),
        ({"x": with_value(np.inf)}, "1 of 10 samples hold NaN"),
        ({"x": with_value(0).astype(np.float64) + 1e300}, "10 of 10 samples"),
        ({"x": np.zeros((0, 28, 28), np.uint8)}, "0 samples"),
        ({"x": np.zeros((5, 0, 28), np.uint8)}, "0 samples"),
        ({"x": PIXELS[:1]}, "1 samples"),
        ({"x": PIXELS.astype(object)}, "x holds Python objects"),
        ({"x": PIXELS, "y": np.array([None] * 10)}, "y holds Python objects"),
        ({"x": PIXELS.reshape(10, -1)}, "2 axes"),
        ({"x": PIXELS.astype(np.int64)}, "int64"),
        ({"x": PIXELS.astype(str)}, "<U"),
        ({"x": PIXELS, "y": np.arange(9)}, "10 samples"),
        ({"x": PIXELS, "y": np.zeros((10, 10), int)}, "10 samples"),
        ({"x": PIXELS, "y": np.arange(10) / 2}, "float64"),
        ({"x": PIXELS, "y": np.arange(10) - 1}, "negative label -1"),
    ],
)
def test_unusable_arrays_are_refused_with_a_hint(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(BadData, match=message) as caught:
        datasets.load(saved(tmp_path, **arrays))
    assert caught.value.hint


def test_a_missing_file_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", PIXELS)
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "folder.npz").mkdir()
    for name in ("absent.npz", "plain.npy", "text.npz", "folder.npz"):
        with pytest.raises(BadData, match=name):
            datasets.load(str(tmp_path / name))


def test_a_file_that_claims_more_than_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 28, 28)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member.getvalue())
    with pytest.raises(BadData, match="more than 1024 MiB"):
        datasets.load(str(path))


def test_a_file_larger_than_the_limit_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "MAX_BYTES", 1 << 10)
    with pytest.raises(BadData, match=r"own\.npz holds more than"):
        datasets.load(saved(tmp_path, x=PIXELS))


def test_damaged_files_end_in_words_and_never_in_a_traceback(tmp_path: Path) -> None:
    good = Path(saved(tmp_path, x=PIXELS, y=np.arange(10))).read_bytes()
    random, refused = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(good)
        for place in random.integers(0, len(good), 8):
            damaged[place] = random.integers(256)
        path = tmp_path / "damaged.npz"
        path.write_bytes(damaged[: random.integers(1, len(good))] if random.random() < 0.3 else damaged)
        try:
            datasets.load(str(path))
        except BadData:
            refused += 1
    assert refused > 250
