"""Does the latency protocol call a model as fast as itself? One artefact, timed against itself (an A/A test)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.latency import Candidate, measure
from benchmarks.latency_report import Latency, summarise
from benchmarks.protocol import QUICK
from benchmarks.suite.figure import Figure, Figures
from models import zoo
from quantizers import registry
from quantizers.adapter import Request
from quantizers.schema import NO_OPTIONS, Backend, Mode, Technique

MODEL = "mnist-cnn"
BACKEND = Backend.TFLITE


def run() -> Figures:
    """The ratio of a model's latency to its own; its 95 % interval must hold 1."""
    low, high = (report := _against_itself()).speedup_ci95
    return {
        "ratio": Figure(report.speedup, "×", 1.0),
        "ratio_ci95_low": Figure(low, "×"),
        "ratio_ci95_high": Figure(high, "×"),
        "interval_holds_1": Figure(float(low <= 1 <= high), "1 = yes", 1.0),
        "p50": Figure(report.p50_ms, "ms"),
        "noisy_machine": Figure(float(report.noisy), "1 = yes", 0.0),
    }


def _against_itself() -> Latency:
    model = zoo.load(MODEL)
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder:
        request = Request(Technique(Mode.FLOAT32), NO_OPTIONS, None, Path(folder))
        artefact = registry.get(BACKEND).quantize(model, request, lambda _fraction, _words: None).path
        twins = [Candidate(key, BACKEND, artefact, NO_OPTIONS) for key in ("one", "other")]
        batch = np.zeros((1, *model.info.input_shape), np.float32)
        timings = measure(twins, batch, QUICK, threads=1, seed=0, report=lambda _fraction, _words: None)
    return summarise(timings["one"], timings["other"], None, threads=1, batch=1, seed=0)
