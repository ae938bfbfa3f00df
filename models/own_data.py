"""A safe reader for people's own .npz files: x, and y where there are labels. Nothing in the file is trusted.

Headers are read before any array is, so that a file which claims more than the limits, or holds Python objects, is refused
before memory is spent on it.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.float_model import Images, ModelInfo
from models.samples import Dataset, LoadedDataset, Rows, Split, with_digest
from quantizers.errors import BadData
from quantizers.signature import Signature

MAX_BYTES = 1 << 30
"""Size limit of an .npz file and of its arrays once unpacked."""
_CALIBRATION_SHARE = 0.2
_CALIBRATION_MOST = 500
_HOW_TO_SAVE = 'Save it with numpy.savez_compressed("data.npz", x=images, y=labels).'


def read(path: Path, model: ModelInfo | None = None) -> LoadedDataset:
    """Reads an .npz with x ([N, H, W] or [N, H, W, C]; uint8 pixels or preprocessed floats) and, optionally, y ([N] integers).

    For a model that does not take one batch of images, x has the shape its one input takes, or there is one array [N, …] for
    each of its inputs, named like it. The rows are split by a fixed seed: a fifth, at most 500, for calibration and the rest
    for testing.

    Raises:
        BadData: the file cannot be read or its arrays cannot be used.
    """
    taken = None if model is None else model.signature
    inputs = () if taken is None else tuple(one.name for one in taken.inputs)
    arrays = _arrays(path, {"x", "y", *inputs})
    if taken is None:
        x = _images(_array(path, arrays, "x"))
    elif len(inputs) == 1 and not taken.packed and "x" in arrays:
        x = _tensors(arrays["x"], taken)
    else:
        given = {name: arrays[name] for name in inputs if name in arrays}
        alone = {inputs[0]: arrays["x"]} if len(inputs) == 1 and "x" in arrays else given
        x = _checked(taken.pack(alone))
    y = _labels(arrays["y"], len(x)) if "y" in arrays and "y" not in inputs else None
    order = np.random.default_rng(0).permutation(len(x))
    first = min(math.ceil(len(x) * _CALIBRATION_SHARE), _CALIBRATION_MOST)
    rows = {Split.CALIBRATION: np.sort(order[:first]), Split.TEST: np.sort(order[first:])}
    info = Dataset(str(path), path.name, "Your own samples.", "your own", shape=None, labels=None, splits={})
    return with_digest(info, x, y, {split.value: chosen for split, chosen in rows.items()})


def names(path: Path) -> tuple[str, ...]:
    """Names of the arrays in an .npz.

    Raises:
        BadData: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(sorted(name.removesuffix(".npy") for name in archive.namelist()))
    except Exception as error:  # as in `_arrays`
        raise BadData(f"{path.name} cannot be read as an .npz file: {error}", _HOW_TO_SAVE) from error


def is_npz(path: Path) -> bool:
    """Whether a zip holds arrays only.

    Raises:
        BadData: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except Exception as error:  # as in `_arrays`
        raise BadData(f"{path.name} cannot be read: {error}", _HOW_TO_SAVE) from error


def _arrays(path: Path, wanted: set[str]) -> dict[str, NDArray[np.generic]]:
    """Those of the `wanted` arrays that there are."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(path)
        with zipfile.ZipFile(path) as archive:
            members = {f"{name}.npy" for name in wanted} & set(archive.namelist())
            _check_headers(path, archive, members)
        with np.load(path, allow_pickle=False) as file:
            return {member.removesuffix(".npy"): file[member] for member in members}
    except BadData:
        raise
    except Exception as error:  # a broken file makes zipfile, zlib and numpy raise whatever they like
        raise BadData(f"{path.name} cannot be read as an .npz file: {error}", _HOW_TO_SAVE) from error


def _array(path: Path, arrays: dict[str, NDArray[np.generic]], name: str) -> NDArray[np.generic]:
    if name not in arrays:
        held = ", ".join(names(path)) or "nothing"
        raise BadData(f"{path.name} has no array called {name}; it holds {held}.", _HOW_TO_SAVE)
    return arrays[name]


def _check_headers(path: Path, archive: zipfile.ZipFile, members: set[str]) -> None:
    """Refuses what is too large or not numbers, by what the file says of itself."""
    total = 0
    for member in members:
        with archive.open(member) as stream:
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = header(stream)
        if dtype.hasobject:
            raise BadData(f"{member.removesuffix('.npy')} holds Python objects.", "Make it an array of numbers of one shape.")
        total += math.prod(shape) * dtype.itemsize
    if total > MAX_BYTES:
        raise _too_large(path)


def _too_large(path: Path) -> BadData:
    return BadData(f"{path.name} holds more than {MAX_BYTES >> 20} MiB.", "Save fewer samples, or save them as uint8.")


def _images(x: NDArray[np.generic]) -> Images:
    """x as [N, H, W, C], uint8 or finite float32."""
    if x.ndim not in (3, 4):
        raise BadData(f"x has {x.ndim} axes.", "It must be [N, H, W] or [N, H, W, C].")
    _check_number(x)
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.dtype == np.uint8:
        return x.astype(np.uint8, copy=False)
    if not np.issubdtype(x.dtype, np.floating):
        raise BadData(f"x is {x.dtype}.", "Save pixels as uint8, or preprocessed values as float32.")
    return _checked(x)


def _tensors(x: NDArray[np.generic], taken: Signature) -> Images:
    """x for a model with one input: pixels where it takes images, else numbers as they are."""
    if len(taken.sample_shape) == 3 and taken.inputs[0].dtype.startswith("float"):
        return _images(x)
    _check_number(x)
    if not np.issubdtype(x.dtype, np.number) or np.issubdtype(x.dtype, np.complexfloating):
        raise BadData(f"x is {x.dtype}.", "Save numbers.")
    return _checked(x)


def _check_number(x: NDArray[np.generic]) -> None:
    if x.size == 0 or len(x) < 2:
        raise BadData(f"x holds {len(x) if x.size else 0} samples.", "It takes at least 2: one to calibrate with, one to test.")


def _checked(x: NDArray[np.generic]) -> NDArray[np.float32]:
    """x as float32, all of it finite."""
    with np.errstate(over="ignore"):
        values = x.astype(np.float32)
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        first = int(np.argmax(bad))
        raise BadData(
            f"{int(bad.sum())} of {len(x)} samples hold NaN or infinite values; the first is number {first}.",
            "Remove or repair these samples.",
        )
    return values


def _labels(y: NDArray[np.generic], n: int) -> Rows:
    if y.shape != (n,):
        raise BadData(f"y has shape {y.shape}, but x holds {n} samples.", f"y must hold one class number per sample: [{n}].")
    if not np.issubdtype(y.dtype, np.integer):
        raise BadData(f"y is {y.dtype}.", "Save class numbers as integers, starting at 0.")
    labels = y.astype(np.int64)
    if labels.min() < 0:
        raise BadData(f"y holds the negative label {labels.min()}.", "Classes are numbered from 0.")
    return labels
