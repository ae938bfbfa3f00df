"""How long ONNX Runtime takes to quantize EfficientNet-Lite0 with ten techniques, one after another in one process.

Only the backend is measured, from the float model to a file that was read back: no accuracy, no latency. The techniques share
what an experiment's trials share, so ranges of activations are found once.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.suite.figure import Figure, Figures
from models import datasets, zoo
from models.float_model import FloatModel
from quantizers import registry
from quantizers.adapter import Batch, Request
from quantizers.capabilities import resolve_options
from quantizers.schema import Backend, Technique

MODEL, DATA, CALIBRATION, EVALUATION = "efficientnet-lite0", "photos", 32, 16
TECHNIQUES = (
    "dynamic_wi8",
    "static_wi8_ai8",
    "static_wi8_ai16",
    "static_wi4_ai8",
    "weight_only_wi8",
    "weight_only_wi4_g32",
    "weight_only_wi2",
    "float16",
    "ternary",
    "hybrid_wf16_ai8",
)
TARGET_SECONDS = 120.0


def run() -> Figures:
    """Seconds in all and by technique; size and output SQNR of each against the float model."""
    model, data = zoo.load(MODEL), datasets.load(DATA)
    calibration = model.info.preprocess(data.split("calibration").take(CALIBRATION).x)
    evaluation = model.info.preprocess(data.split("test").take(EVALUATION).x)
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        logits, float_bytes, _ = _quantized(model, "float32", calibration, evaluation, Path(name))
        for code in TECHNIQUES:
            answer, size, seconds = _quantized(model, code, calibration, evaluation, Path(name))
            noise = float(((answer - logits) ** 2).sum())
            figures[f"{code}, seconds"] = Figure(seconds, "s")
            figures[f"{code}, times smaller"] = Figure(float_bytes / size, "×")
            figures[f"{code}, output SQNR"] = Figure(10 * float(np.log10(float((logits**2).sum()) / noise)), "dB")
    total = sum(figure.value for figure in figures.values() if figure.unit == "s")
    return {"sweep": Figure(total, "s", TARGET_SECONDS), **figures}


def _quantized(model: FloatModel, code: str, calibration: Batch, evaluation: Batch, folder: Path) -> tuple[Batch, int, float]:
    """Logits on `evaluation`, bytes of the file, and seconds that quantizing took."""
    technique = Technique.parse(code)
    workdir = folder / code
    workdir.mkdir()
    samples = calibration if technique.needs_calibration else None
    options = resolve_options(Backend.ONNXRUNTIME, technique, {})
    began = time.perf_counter()
    request = Request(technique, options, samples, workdir, shared=folder / "shared")
    quantized = registry.get(Backend.ONNXRUNTIME).quantize(model, request, lambda _fraction, _words: None)
    seconds = time.perf_counter() - began
    return quantized.predict(evaluation), quantized.path.stat().st_size, seconds
