"""Does a latency repeat? The same models measured again and again: how figures scatter, and whether their intervals agree."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.latency import Candidate, measure
from benchmarks.latency_report import Interval, Latency, summarise
from benchmarks.protocol import QUICK
from benchmarks.suite.figure import Figure, Figures
from models import datasets, zoo
from models.float_model import FloatModel
from quantizers import registry
from quantizers.adapter import Batch, Request
from quantizers.capabilities import resolve_options
from quantizers.schema import Backend, Technique

MODEL = "fashion-cnn"
BACKEND = Backend.TFLITE
BASELINE = "float32"
CODES = (BASELINE, "float16", "dynamic_wi8", "weight_only_wi4", "static_wi8_ai8")
CALIBRATION_SAMPLES = 100
TIMES = 6


def run() -> Figures:
    """Scatter is the standard deviation of logarithms, in percent, of the technique that scatters most."""
    model = zoo.load(MODEL)
    data = datasets.load(model.info.datasets[0])
    calibration = model.info.preprocess(data.split("calibration").take(CALIBRATION_SAMPLES).x)
    batch = model.info.preprocess(data.split("test").take(1).x)
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder:
        candidates = [_candidate(model, code, calibration, Path(folder)) for code in CODES]
        measured = [_measure(candidates, batch, seed) for seed in range(TIMES)]
    by_code = [[reports[code] for reports in measured] for code in CODES if code != BASELINE]
    repeated = [report.repeated_blocks for many in by_code for report in many]
    return {
        "speedup_scatter": Figure(max(_scatter([one.speedup for one in many]) for many in by_code), "%"),
        "p50_scatter": Figure(max(_scatter([one.p50_ms for one in many]) for many in by_code), "%"),
        "speedups_that_agree": Figure(_agreeing([[one.speedup_ci95 for one in many] for many in by_code]), "of 1", 1.0),
        "p50s_that_agree": Figure(_agreeing([[one.p50_ci95_ms for one in many] for many in by_code]), "of 1", 1.0),
        "repeated_blocks": Figure(float(np.mean(repeated)), "per technique and measurement"),
    }


def _candidate(model: FloatModel, code: str, calibration: Batch, folder: Path) -> Candidate:
    technique = Technique.parse(code)
    options = resolve_options(BACKEND, technique, {})
    (folder / code).mkdir()
    request = Request(technique, options, calibration, folder / code)
    quantized = registry.get(BACKEND).quantize(model, request, lambda _fraction, _words: None)
    return Candidate(code, BACKEND, quantized.path, options)


def _measure(candidates: Sequence[Candidate], batch: Batch, seed: int) -> dict[str, Latency]:
    timings = measure(candidates, batch, QUICK, threads=1, seed=seed, report=lambda _fraction, _words: None)
    return {
        code: summarise(timing, timings[BASELINE], None, threads=1, batch=1, seed=seed)
        for code, timing in timings.items()
        if code != BASELINE
    }


def _scatter(values: Sequence[float]) -> float:
    return float(100 * np.std(np.log(values), ddof=1))


def _agreeing(intervals: Sequence[Sequence[Interval]]) -> float:
    """The share of pairs of measurements of one technique whose intervals overlap."""
    pairs = [pair for many in intervals for pair in itertools.combinations(many, 2)]
    return sum(low <= other_high and other_low <= high for (low, high), (other_low, other_high) in pairs) / len(pairs)
