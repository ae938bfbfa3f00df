"""The bundled data is what it says: sizes, balance, disjoint splits, digests; and samples are taken as asked."""

import hashlib

import numpy as np
import pytest

from models import datasets, photos, zoo
from models.datasets import Samples, Split
from quantizers.errors import BadData, UnknownName, Unsupported

VENDORED = ("mnist-5k", "fashion-mnist")


@pytest.mark.parametrize(
    "info", [info for info in datasets.catalogue() if info.shape and info.available], ids=lambda info: info.id
)
def test_what_is_loaded_is_what_the_catalogue_says(info: datasets.Dataset) -> None:
    data = datasets.load(info.id)
    assert {split: len(data.split(split)) for split in info.splits} == dict(info.splits)
    assert data.x.shape[1:] == info.shape
    assert data.x.dtype == (np.float32 if info.id == "sentences" else np.uint8)
    assert info.digest in (None, data.info.digest)


@pytest.mark.parametrize(
    ("data_id", "digest"),
    [
        ("mnist-5k", "288bc992f3dd281b2a702256afc71238844acc254dea393057e23b53ff68e295"),
        ("fashion-mnist", "38547a9c2684cf62198bb112ce06215770bd890e5b40a8a7d2ecb76a7bbf6154"),
    ],
)
def test_digests_are_stable(data_id: str, digest: str) -> None:
    assert datasets.load(data_id).info.digest == digest


def test_photos_are_cut_alike_every_time() -> None:
    assert datasets.load("photos").info.digest == datasets.load("photos").info.digest


@pytest.mark.parametrize("data_id", [*VENDORED, "photos"])
def test_splits_are_disjoint_and_cover_everything(data_id: str) -> None:
    data = datasets.load(data_id)
    rows = np.concatenate([data.split(split).indices for split in data.info.splits])
    assert sorted(rows.tolist()) == list(range(len(data.x)))


@pytest.mark.parametrize("data_id", VENDORED)
def test_no_calibration_or_test_image_is_also_trained_on(data_id: str) -> None:
    """By content: the sources could hold an image twice."""
    data = datasets.load(data_id)
    seen = {split: {hashlib.sha256(image.tobytes()).digest() for image in data.split(split).x} for split in Split}
    assert not seen[Split.TRAIN] & seen[Split.CALIBRATION]
    assert not seen[Split.TRAIN] & seen[Split.TEST]
    assert not seen[Split.CALIBRATION] & seen[Split.TEST]


@pytest.mark.parametrize("data_id", VENDORED)
@pytest.mark.parametrize("split", list(Split))
def test_splits_are_stratified(data_id: str, split: Split) -> None:
    labels = datasets.load(data_id).split(split).y
    assert labels is not None
    counts = np.bincount(labels)
    assert len(counts) == 10
    assert set(counts) == {len(labels) // 10}


def test_labels_belong_to_their_images() -> None:
    """A nearest-mean classifier does far better than chance, so images and labels are in step in every split."""
    for data_id in VENDORED:
        data = datasets.load(data_id)
        train = data.split(Split.TRAIN)
        means = np.stack([train.x[train.y == label].mean(axis=0).ravel() for label in range(10)])
        for split in (Split.CALIBRATION, Split.TEST):
            samples = data.split(split)
            distances = ((samples.x.reshape(len(samples), 1, -1) - means) ** 2).sum(axis=2)
            assert (distances.argmin(axis=1) == samples.y).mean() > 0.6


def test_calibration_and_test_crops_come_from_different_photos() -> None:
    used = [set(names) for names in photos._PHOTOS.values()]
    assert not set.intersection(*used)
    assert sum(map(len, used)) * photos.CROPS == len(datasets.load("photos").x)


def test_photos_have_colour_and_differ() -> None:
    x = datasets.load("photos").split(Split.TEST).x
    assert np.abs(np.diff(x.astype(int), axis=3)).mean() > 2
    assert len({image.tobytes() for image in x}) == len(x)


def test_photos_say_when_their_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = photos.find_spec
    monkeypatch.setattr(photos, "find_spec", lambda name: None if name == "skimage" else found(name))
    assert not photos.describe().available
    with pytest.raises(Unsupported, match="skimage"):
        datasets.load("photos")


def test_take_is_seeded_and_nested() -> None:
    samples = datasets.load("mnist-5k").split(Split.CALIBRATION)
    few, many = samples.take(20, seed=3), samples.take(60, seed=3)
    assert few.indices.tolist() == many.indices[:20].tolist()
    assert len(set(many.indices.tolist())) == 60
    assert few.indices.tolist() != samples.take(20, seed=4).indices.tolist()
    np.testing.assert_array_equal(few.x, datasets.load("mnist-5k").x[few.indices])


@pytest.mark.parametrize("n", [0, -1, 501])
def test_an_impossible_number_of_samples_is_refused(n: int) -> None:
    with pytest.raises(BadData, match=str(n)) as caught:
        datasets.load("mnist-5k").split(Split.CALIBRATION).take(n)
    assert caught.value.hint


def test_an_unknown_dataset_or_split_is_refused() -> None:
    with pytest.raises(UnknownName, match="mnist-6k") as unknown:
        datasets.load("mnist-6k")
    assert "mnist-5k" in unknown.value.hint
    with pytest.raises(BadData, match="no train split"):
        datasets.load("photos").split(Split.TRAIN)


@pytest.mark.parametrize("info", zoo.catalogue(), ids=lambda info: info.id)
def test_a_models_own_data_fits_it(info: zoo.ModelInfo) -> None:
    for data_id in info.datasets:
        datasets.check_fits(datasets.load(data_id).split(Split.TEST), info)


def blank(*shape: int, y: list[int] | None = None) -> Samples:
    labels = None if y is None else np.array(y)
    return Samples(np.zeros(shape, np.uint8), labels, np.arange(shape[0]))


@pytest.mark.parametrize(
    ("samples", "hint"),
    [
        (blank(2, 1, 28, 28), "transpose"),
        (blank(2, 28, 28, 3), "1 channel"),
        (blank(2, 32, 32, 1), "28 × 28"),
        (blank(2, 28, 28, 1, y=[0, 10]), "0 to 9"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_cure(samples: Samples, hint: str) -> None:
    info = next(info for info in zoo.catalogue() if info.id == "mnist-cnn")
    with pytest.raises(BadData) as caught:
        datasets.check_fits(samples, info)
    assert hint in caught.value.hint
