"""Sketches of a model's weights as one .npz file without pickles: written by whoever built them, read a tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.sketch import Sketch

if TYPE_CHECKING:
    from quantizers.sketch_build import TensorSketches

VERSION = 1
"""Of the layout; files of another are built anew."""
FASTEST = 1
"""Of zlib's levels: five times as fast as NumPy's own choice, for a tenth more bytes."""
_INDEX = "index"


@dataclass(frozen=True, eq=False)
class TensorSummary:
    """What a file holds of a tensor beside its sketches.

    Attributes:
        sketches: names of its sketches, as `sketch_build.sketch_key` gives them.
        channel_low, channel_high: extremes of each channel [C].
        bits: bit widths of the exact figures.
        sqnr_db, mse: exact, on symmetric min-max grids: per tensor and per channel [2, bits]; NaN where SQNR has no value.
    """

    name: str
    shape: tuple[int, ...]
    sketches: tuple[str, ...]
    channel_low: NDArray[np.float32]
    channel_high: NDArray[np.float32]
    bits: tuple[int, ...]
    sqnr_db: NDArray[np.float64]
    mse: NDArray[np.float64]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


def write(path: Path, tensors: Mapping[str, TensorSketches]) -> None:
    """Writes the sketches of a model; a half-written file never stands under its name."""
    arrays: dict[str, NDArray[Any]] = {}
    index = []
    for number, (name, tensor) in enumerate(tensors.items()):
        index.append({"name": name, "shape": tensor.shape, "bits": tensor.errors.bits, "sketches": list(tensor.sketches)})
        arrays[f"{number}/channels"] = np.stack([tensor.channel_low, tensor.channel_high])
        arrays[f"{number}/exact"] = np.stack([tensor.errors.sqnr_db, tensor.errors.mse])
        for key, sketch in tensor.sketches.items():
            arrays |= {f"{number}/{key}/{part}": array for part, array in _arrays(sketch).items()}
    arrays[_INDEX] = np.array(json.dumps({"version": VERSION, "tensors": index}))
    half = path.with_name(f".{path.name}.half")
    with ZipFile(half, "w", ZIP_DEFLATED, compresslevel=FASTEST) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    half.replace(path)


def _arrays(sketch: Sketch) -> dict[str, NDArray[Any]]:
    """A sketch as four arrays."""
    percentiles = [(percent, *parts) for percent, parts in sketch.percentiles.items()]
    return {
        "percentiles": np.array(percentiles, np.float64).reshape(-1, 4),
        "units": np.concatenate([np.full((1, 4), sketch.bins), np.hstack([sketch.reach, sketch.unit])]),
        "counts": np.stack([sketch.place, sketch.count]),
        "moments": np.stack([sketch.weight, sketch.mean, sketch.variance]),
    }


class SketchFile:
    """Reads a file of sketches; only what is asked for.

    Raises:
        BadData: it is no such file, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as arrays:
                index = json.loads(str(arrays[_INDEX]))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise BadData(f"{path.name} is no file of sketches.", "Delete it; it is built anew when needed.") from error
        if index["version"] != VERSION:
            raise BadData(f"{path.name} is of another version.", "Delete it; it is built anew when needed.")
        self._tensors: list[dict[str, Any]] = index["tensors"]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of values by name of tensor, in the model's order."""
        return {tensor["name"]: int(np.prod(tensor["shape"], dtype=np.int64)) for tensor in self._tensors}

    def summary(self, name: str) -> TensorSummary:
        """All about a tensor but its sketches."""
        number = list(self.sizes).index(name)
        tensor = self._tensors[number]
        with np.load(self.path, allow_pickle=False) as arrays:
            (low, high), (sqnr, mse) = arrays[f"{number}/channels"], arrays[f"{number}/exact"]
        shape, bits = tuple(tensor["shape"]), tuple(tensor["bits"])
        return TensorSummary(name, shape, tuple(tensor["sketches"]), low, high, bits, sqnr, mse)

    def sketch(self, name: str, key: str) -> Sketch:
        """One sketch of a tensor."""
        number = list(self.sizes).index(name)
        with np.load(self.path, allow_pickle=False) as arrays:
            parts = ("percentiles", "units", "counts", "moments")
            percentiles, units, (place, count), (weight, mean, variance) = (arrays[f"{number}/{key}/{part}"] for part in parts)
        return Sketch(
            bins=int(units[0, 0]),
            reach=units[1:, :2],
            unit=units[1:, 2:],
            place=place,
            count=count,
            weight=weight,
            mean=mean,
            variance=variance,
            percentiles={percent: (below, above, either) for percent, below, above, either in percentiles.tolist()},
        )
