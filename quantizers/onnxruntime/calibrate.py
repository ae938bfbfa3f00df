"""Ranges of activations from calibration samples, in memory that does not grow with their number.

The runtime's histogram calibrators keep every activation of all they read in one go. Given one batch at a time they merge its
histogram into the last one and forget it, so batches are handed over singly and the ranges are passed to `quantize_static` as
its calibration cache. They depend on the float model and the samples alone, so trials that share a folder measure them once.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data

from quantizers.adapter import Batch, Report
from quantizers.onnxruntime.session import Feeds
from quantizers.shared import once
from quantizers.signature import Signature

_BATCH = 32
_RANGES = "ranges.json"


class Calibrator(StrEnum):
    MINMAX = "minmax"
    MOVING_AVERAGE = "moving_average"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"


@dataclass(frozen=True)
class _Recipe:
    """A calibrator of the runtime, with the settings that are not its own defaults."""

    method: CalibrationMethod
    settings: dict[str, Any] = field(default_factory=dict)


_RECIPES = {
    Calibrator.MINMAX: _Recipe(CalibrationMethod.MinMax),
    # The default weight of a new batch, 0.01, would hardly let a few batches move the range of the first one.
    Calibrator.MOVING_AVERAGE: _Recipe(CalibrationMethod.MinMax, {"moving_average": True, "averaging_constant": 0.1}),
    Calibrator.PERCENTILE: _Recipe(CalibrationMethod.Percentile),
    Calibrator.ENTROPY: _Recipe(CalibrationMethod.Entropy),
}


class _OneBatch(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no type hints
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = iter([dict(feeds)])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def measure_ranges(
    prepared: Path, signature: Signature, samples: Batch, calibrator: Calibrator, shared: Path, report: Report
) -> tuple[Path, CalibrationMethod]:
    """Runs the float model at `prepared` on `samples`, unless `shared` holds the range of every activation already.

    Returns:
        A file with the ranges, in the form `quantize_static` takes as `calibration_cache_path`, and the method it has to be
        told.
    """
    recipe = _RECIPES[calibrator]
    depends_on = {
        "onnxruntime": onnxruntime.__version__,
        "model": hashlib.sha256(prepared.read_bytes()).hexdigest(),
        "samples": hashlib.sha256(samples.tobytes()).hexdigest(),
        "calibrator": calibrator.value,
    }
    entry = once(shared, "ranges", depends_on, lambda folder: _measure(prepared, signature, samples, recipe, folder, report))
    return entry / _RANGES, recipe.method


def _measure(prepared: Path, signature: Signature, samples: Batch, recipe: _Recipe, folder: Path, report: Report) -> None:
    # The calibrators print what they do, and need the float model with an output for every activation.
    with redirect_stdout(sys.stderr), TemporaryDirectory() as scratch:
        observer = create_calibrator(
            prepared,
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=recipe.method,
            extra_options=recipe.settings,
        )
        for done, feeds in _batches(samples, signature):
            report(0.2 + 0.5 * done / len(samples), f"Calibrating: {done} of {len(samples)} samples")
            observer.collect_data(_OneBatch(feeds))
        save_tensors_data(observer.compute_data(), folder / _RANGES)


def _batches(samples: Batch, signature: Signature) -> Iterator[tuple[int, Feeds]]:
    """Pairs of the number of samples after it and a batch as the model's inputs."""
    size = _BATCH if signature.batched else 1
    for start in range(0, len(samples), size):
        batch = samples[start : start + size]
        yield start + len(batch), signature.unpack(batch)
