"""Makes fashion-mnist.npz from the IDX files of the Debian package dataset-fashion-mnist.

    apt-get install dataset-fashion-mnist
    python -m models.data.make_fashion_mnist [FOLDER]

Kept are 10,000 of the 60,000 training images (1,000 a class, chosen by a fixed seed: 950 to train on and 50 to calibrate
with) and all 10,000 of the official test set, in their order.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data import store
from models.samples import Split

_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_PER_CLASS = {Split.TRAIN: 950, Split.CALIBRATION: 50}


def main(folder: Path) -> None:
    x, y = _read(folder / "train-images-idx3-ubyte.gz"), _read(folder / "train-labels-idx1-ubyte.gz")
    test_x, test_y = _read(folder / "t10k-images-idx3-ubyte.gz"), _read(folder / "t10k-labels-idx1-ubyte.gz")
    chosen = np.sort(np.concatenate(list(store.deal(y, _PER_CLASS).values())))
    rows = store.deal(y[chosen], _PER_CLASS) | {Split.TEST.value: len(chosen) + np.arange(len(test_y))}
    labels = np.concatenate([y[chosen], test_y]).astype(np.int64)
    store.save("fashion-mnist", np.concatenate([x[chosen], test_x]), labels, rows)


def _read(path: Path) -> NDArray[Any]:
    """An IDX file of unsigned bytes: two zero bytes, the type, the number of axes, their lengths (big-endian), the values."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _FOLDER)
