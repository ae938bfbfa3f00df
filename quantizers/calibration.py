"""A look at calibration samples before any backend sees them.

From unusable ones some backends return a float model without an error.
"""

from __future__ import annotations

import numpy as np

from quantizers.adapter import Batch
from quantizers.errors import BadData


def check_calibration(samples: Batch | None, expected: tuple[int, ...]) -> Batch:
    """The samples as contiguous float32, fit to calibrate a model that takes `expected` (without the batch).

    Raises:
        BadData: there are none, they are no real numbers, of another shape, NaN or infinite, or their values are all equal.
    """
    if samples is None or len(samples) == 0:
        raise BadData("Calibration needs samples, and there are none.", "Give at least one; 100 to 500 is usual.")
    if samples.shape[1:] != tuple(expected):
        what = f"Calibration samples have the shape {samples.shape[1:]}; the model takes {tuple(expected)}."
        raise BadData(what, "Give samples as the model takes them, channels last.")
    if samples.dtype.kind not in "fiub":
        what = f"Calibration samples are of the type {samples.dtype}, which no model takes."
        raise BadData(what, "Give real numbers: float32 is usual.")
    unusable = int((~np.isfinite(samples.reshape(len(samples), -1)).all(axis=1)).sum())
    if unusable:
        what = f"{unusable} of {len(samples)} calibration samples hold NaN or infinity."
        raise BadData(what, "Look at the preprocessing, or leave those samples out.")
    if samples.min() == samples.max():
        what = f"Every value of the calibration samples is {samples.min():g}: there is no range to measure."
        raise BadData(what, "Give samples like those the model will meet.")
    return np.ascontiguousarray(samples, np.float32)
