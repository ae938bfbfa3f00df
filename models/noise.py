"""Samples of noise for a model that no data fits: enough to compare quantized with float, and said to be noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.float_model import ModelInfo
from models.samples import Dataset, LoadedDataset, Split, with_digest

ID = "noise"
_SIZES = {Split.CALIBRATION: 64, Split.TEST: 64}
_CHANNELS = (1, 3, 4)


def describe() -> Dataset:
    return Dataset(
        ID,
        "Noise",
        "Seeded random values in the shape the model takes: error and agreement with float on them say little of real data.",
        "made here",
        shape=None,
        labels=None,
        splits={split.value: n for split, n in _SIZES.items()},
    )


def load(model: ModelInfo) -> LoadedDataset:
    """Pixels for a model of images, else a normal distribution; 0 and 1 where an input takes integers."""
    random = np.random.default_rng(0)
    total = sum(_SIZES.values())
    rows = {"calibration": np.arange(_SIZES[Split.CALIBRATION]), "test": np.arange(_SIZES[Split.CALIBRATION], total)}
    shape = (total, *model.input_shape)
    if len(model.input_shape) == 3 and model.input_shape[-1] in _CHANNELS:
        return with_digest(describe(), random.integers(0, 256, shape, np.uint8), None, rows)
    values: NDArray[np.float32] = random.standard_normal(shape, np.float32)
    if model.signature is not None:
        values = values.reshape(total, -1)
        start = 0
        for one in model.signature.inputs:
            part = values[:, start : start + one.size]
            part[...] = part if one.dtype.startswith("float") else part > 0
            start += one.size
        values = values.reshape(shape)
    return with_digest(describe(), values, None, rows)
