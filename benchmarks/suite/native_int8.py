"""Is native int8 of PyTorch faster than its own lowered float baseline? Timed side by side on one batch, on this CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import machine
from benchmarks.latency import Candidate, measure
from benchmarks.latency_report import summarise
from benchmarks.protocol import Protocol
from benchmarks.suite.figure import Figure, Figures
from models import datasets, zoo
from quantizers import registry
from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.schema import Backend, Technique

MODEL = "fashion-resnet"
INT8, BASELINE = "static_wi8_ai8", "float32"
BATCHES = (1, 32)
CALIBRATION_SAMPLES = 200
INTEGER_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")
LEAST_FUSED = 0.8
PROTOCOL = Protocol(runs=100, seconds=3.0, limit_seconds=60.0, opening_seconds=120.0)
"""The quick one, with time to open five processes of each: an interval over two of them says next to nothing."""


def run() -> Figures:
    """The ratio of p50s at batch 1 and 32 with its 95 % interval, and how many layers run in int8.

    A CPU without 8-bit dot products multiplies 8-bit numbers in 16 bits: there the ratio has no target.
    """
    isa = machine.describe().isa
    fast = any(flag in isa for flag in INTEGER_DOT_PRODUCTS)
    figures: Figures = {f"has_{flag}": Figure(float(flag in isa), "1 = yes") for flag in INTEGER_DOT_PRODUCTS}
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder:
        candidates, coverage = _candidates(Path(folder))
        figures["layers_in_int8"] = Figure(coverage, "of all", LEAST_FUSED if fast else None)
        for batch in BATCHES:
            figures |= _ratio(candidates, batch, 1.0 if fast and batch > 1 else None)
    return figures


def _candidates(folder: Path) -> tuple[list[Candidate], float]:
    """Int8 and the baseline, and the share of layers that run in int8 kernels."""
    model, adapter, candidates, coverage = zoo.load(MODEL), registry.get(Backend.PYTORCH), [], 0.0
    samples = datasets.load(model.info.datasets[0]).split("calibration").take(CALIBRATION_SAMPLES)
    for code in (INT8, BASELINE):
        technique = Technique.parse(code)
        options = resolve_options(Backend.PYTORCH, technique, {})
        (folder / code).mkdir()
        request = Request(technique, options, model.info.preprocess(samples.x), folder / code)
        quantized = adapter.quantize(model, request, lambda _done, _words: None)
        candidates.append(Candidate(code, Backend.PYTORCH, quantized.path, options))
        layers = quantized.layers()
        coverage = max(coverage, sum(layer.runs_in == "int8" for layer in layers) / len(layers))
    return candidates, coverage


def _ratio(candidates: list[Candidate], batch: int, target: float | None) -> Figures:
    model = zoo.load(MODEL)
    x = model.info.preprocess(datasets.load(model.info.datasets[0]).split("test").take(batch).x)
    timings = measure(candidates, x, PROTOCOL, threads=1, seed=0, report=lambda _done, _words: None)
    report = summarise(timings[INT8], timings[BASELINE], None, threads=1, batch=batch, seed=0)
    return {
        f"batch_{batch}_ratio": Figure(report.speedup, "×"),
        f"batch_{batch}_ratio_ci95_low": Figure(report.speedup_ci95[0], "×", target),
        f"batch_{batch}_ratio_ci95_high": Figure(report.speedup_ci95[1], "×"),
        f"batch_{batch}_int8_p50": Figure(report.p50_ms, "ms"),
        f"batch_{batch}_float_p50": Figure(report.float_p50_ms, "ms"),
        f"batch_{batch}_noisy_machine": Figure(float(report.noisy), "1 = yes", 0.0),
    }
