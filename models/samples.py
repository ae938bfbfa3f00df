"""Samples and the datasets that hold them: the types every source of data ends in.

A dataset is one pair of arrays and, for each split, the rows that belong to it, so that every sample keeps one index for life:
the index in a result names the same image in every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models.float_model import Images, ModelInfo
from quantizers.errors import BadData

Rows = NDArray[np.int64]


class Split(StrEnum):
    TRAIN = "train"
    CALIBRATION = "calibration"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Dataset:
    """What there is to know of a dataset without loading it.

    Attributes:
        shape: that of one sample, (H, W, C) for images; None when only loading tells.
        labels: names of the classes; None when there are no labels, or no names for them.
        splits: number of samples of each split.
        digest: `content_digest`; None when it depends on installed packages or a file and only loading tells.
        why_not: why it cannot be loaded here; None when it can.
    """

    id: str
    title: str
    summary: str
    licence: str
    shape: tuple[int, ...] | None
    labels: tuple[str, ...] | None
    splits: Mapping[str, int]
    digest: str | None = None
    why_not: str | None = None

    @property
    def available(self) -> bool:
        return self.why_not is None


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples [N, H, W, C], uint8 pixels or preprocessed float32, with labels [N] or None and their rows in the dataset."""

    x: Images
    y: Rows | None
    indices: Rows

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, n: int, seed: int = 0) -> Samples:
        """`n` samples chosen by `seed`; with one seed, fewer samples are always a part of more.

        Raises:
            BadData: `n` is not between 1 and the number of samples.
        """
        if n < 1:
            raise BadData(f"{n} samples were asked for.", "Ask for at least 1.")
        if n > len(self):
            raise BadData(f"{n} samples were asked for, but there are only {len(self)}.", f"Ask for at most {len(self)}.")
        return self._rows(np.random.default_rng(seed).permutation(len(self))[:n])

    def _rows(self, chosen: Rows) -> Samples:
        return Samples(self.x[chosen], None if self.y is None else self.y[chosen], self.indices[chosen])


@dataclass(frozen=True, eq=False)
class LoadedDataset:
    """`rows` names the samples of each split by their index in `x` and `y`."""

    info: Dataset
    x: Images
    y: Rows | None
    rows: Mapping[str, Rows]

    def split(self, name: str) -> Samples:
        """The samples of "train", "calibration" or "test".

        Raises:
            BadData: the dataset has no such split.
        """
        if name not in self.rows:
            raise BadData(f"{self.info.title} has no {name} split.", f"It has: {', '.join(self.rows)}.")
        rows = self.rows[name]
        return Samples(self.x[rows], None if self.y is None else self.y[rows], rows)


def with_digest(info: Dataset, x: Images, y: Rows | None, rows: Mapping[str, Rows]) -> LoadedDataset:
    """A loaded dataset whose description tells what only loading could: shape, sizes and digest."""
    sizes = {name: len(chosen) for name, chosen in rows.items()}
    described = replace(info, shape=x.shape[1:], splits=sizes, digest=content_digest(x, y, rows))
    return LoadedDataset(described, x, y, rows)


def content_digest(x: Images, y: Rows | None, rows: Mapping[str, Rows]) -> str:
    """SHA-256, in hexadecimal, of samples, labels and splits: of what they hold, however a file may pack them."""
    state = hashlib.sha256()
    labels = {} if y is None else {"y": y.astype("<i8")}
    for name, array in ({"x": x} | labels | {name: rows[name].astype("<i8") for name in sorted(rows)}).items():
        state.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def check_fits(samples: Samples, info: ModelInfo) -> None:
    """Makes sure that a model can take the samples.

    Raises:
        BadData: their shape or a label does not fit; the hint says what would.
    """
    wanted, got = info.input_shape, samples.x.shape[1:]
    if got != wanted:
        raise BadData(
            f"{info.title} takes samples of shape {_text(wanted)}, but these are {_text(got)}.", _shape_hint(got, info)
        )
    if samples.y is not None and info.classes is not None and info.targets(samples.y).max() >= info.classes:
        raise BadData(
            f"The labels go up to {samples.y.max()}, but {info.title} has {info.classes} classes.",
            f"Labels must be 0 to {info.classes - 1}; leave out y to go without accuracy.",
        )


def _shape_hint(got: tuple[int, ...], info: ModelInfo) -> str:
    if len(info.input_shape) != 3:
        return "Save x as [N, …] with that shape, or one array for each input of the model, named like it."
    height, width, channels = info.input_shape
    if got == (channels, height, width):
        return "The channels must come last: save x.transpose(0, 2, 3, 1)."
    if got[:2] == (height, width):
        return f"It needs {channels} channel{'s' if channels > 1 else ''}."
    choice = f", or choose one of: {', '.join(info.datasets)}" if info.datasets else ""
    return f"Resize the images to {height} × {width}{choice}."


def _text(shape: tuple[int, ...]) -> str:
    return " × ".join(str(size) for size in shape)
