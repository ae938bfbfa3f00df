"""Colour photos that scikit-image and scikit-learn carry, cut into 224 × 224 crops: real, unlabelled images for fidelity.

The photos are read from the installed packages, not copied. Calibration and test crops come from different photos.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from models.float_model import Images
from models.samples import Dataset, LoadedDataset, Split, with_digest

SIZE = 224
CROPS = 16
"""Crops of each photo."""
_PHOTOS = {
    Split.CALIBRATION: ("china.jpg", "rocket", "hubble_deep_field", "retina"),
    Split.TEST: ("astronaut", "chelsea", "coffee", "flower.jpg"),
}
_SMALLEST_CROP = 0.5
"""Side of the smallest crop, as a part of the photo's shorter side."""


def describe() -> Dataset:
    missing = [name for name in ("skimage", "sklearn") if find_spec(name) is None]
    return Dataset(
        id="photos",
        title="Photos",
        summary=f"Crops of {sum(map(len, _PHOTOS.values()))} colour photos, for error and agreement with float; no labels.",
        licence="Public domain or CC0 (scikit-image); CC BY 2.0, danielbuechele and vultilion (scikit-learn)",
        shape=(SIZE, SIZE, 3),
        labels=None,
        splits={split.value: len(names) * CROPS for split, names in _PHOTOS.items()},
        why_not=f"The photos come with {' and '.join(missing)}, not installed here." if missing else None,
    )


def load() -> LoadedDataset:
    """Cuts the crops, the same ones every time (about a second)."""
    crops: list[NDArray[np.uint8]] = []
    rows: dict[str, NDArray[np.int64]] = {}
    for split, names in _PHOTOS.items():
        start = len(crops)
        for name in names:
            crops += _crops(_photo(name), seed=len(crops))
        rows[split.value] = np.arange(start, len(crops))
    x: Images = np.stack(crops)
    return with_digest(describe(), x, None, rows)


def _photo(name: str) -> NDArray[np.uint8]:
    """[H, W, 3] pixels."""
    if name.endswith(".jpg"):
        from sklearn.datasets import load_sample_image

        return np.asarray(load_sample_image(name), np.uint8)
    import skimage.data

    return np.asarray(getattr(skimage.data, name)(), np.uint8)


def _crops(photo: NDArray[np.uint8], seed: int) -> list[NDArray[np.uint8]]:
    """Square crops at random places and of random size, scaled to SIZE; every other one is mirrored."""
    from PIL import Image

    image, random = Image.fromarray(photo), np.random.default_rng(seed)
    crops = []
    for number in range(CROPS):
        side = random.uniform(_SMALLEST_CROP, 1.0) * min(image.size)
        left, top = (random.uniform(0, length - side) for length in image.size)
        box = (left, top, left + side, top + side)
        crop = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box))
        crops.append(crop[:, ::-1] if number % 2 else crop)
    return crops
