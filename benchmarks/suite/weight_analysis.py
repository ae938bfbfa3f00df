"""How fast all the weights of a large model are judged: 7 bit widths × per tensor and per channel, MSE, SQNR and cosine.

The weights have BERT-base's shapes, 109 million values, seeded and heavy-tailed. Judging them is compared with reading their
memory once and with the loop over NumPy expressions that one would write first; the three take turns in one run, so that
whatever else the machine does hits all alike. The numbers are held against `quantizers.numerics`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from os import environ
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.suite.figure import Figure, Figures
from quantizers.numerics import dequantize, min_max_params, quantize, tensor_error
from quantizers.processors import processors
from quantizers.weight_error import BITS, GRANULARITIES, WeightErrors, weight_errors

ROOT = Path(__file__).parents[2]
ROUNDS = 5
PAIRS = 5
"""Readings and fused passes, one after the other, in a round."""
MOST_READS = 15.0
LEAST_SPEEDUP = 40.0
AGREEMENT = 1e-5
CHECKED = ("embeddings.type", "embeddings.position", "layer0.query", "layer0.output")
"""One tensor of each kind but the largest, held against the exact mathematics."""
SPREAD = np.float32(0.5)
"""Of the logarithm of the sizes of normal values: the kurtosis is 8.2, that of normal values 3."""
Weights = dict[str, NDArray[np.float32]]


def run() -> Figures:
    """Ratios of the shortest times over interleaved rounds (other work only ever adds), and how exact the numbers are."""
    weights = bert_base()
    count = sum(weight.size for weight in weights.values())
    weight_errors({"warm": np.ones((2, 2))})
    seconds: dict[str, list[float]] = {"read": [], "fused": [], "naive": []}
    ours: Mapping[str, WeightErrors] = {}
    for turn in range(ROUNDS):
        for _ in range(PAIRS):
            seconds["read"].append(_timed(lambda: _read(weights))[0])
            taken, ours = _timed(lambda: weight_errors(weights))
            seconds["fused"].append(taken)
        if turn % 2 == 0:  # seconds each: every second round is enough
            seconds["naive"].append(_timed(lambda: [_naive(weight) for weight in weights.values()])[0])
    read, fused, slow = (min(seconds[which]) for which in ("read", "fused", "naive"))
    cold, warm = _first_call_seconds()
    return {
        "reads_of_memory": Figure(fused / read, "×", MOST_READS),
        "faster_than_naive": Figure(slow / fused, "×", LEAST_SPEEDUP),
        "largest_difference": Figure(max(_difference(ours[name], weights[name]) for name in CHECKED), "relative", AGREEMENT),
        "one_read": Figure(1e3 * read, "ms"),
        "fused": Figure(1e3 * fused, "ms"),
        "naive": Figure(1e3 * slow, "ms"),
        "first_call_ever": Figure(cold, "s"),
        "first_call_of_a_process": Figure(warm, "s"),
        "weights": Figure(count, "weights"),
        "threads": Figure(processors(), "threads"),
    }


def bert_base() -> Weights:
    """Weights of BERT-base's shapes (Devlin et al. 2018, arXiv:1810.04805), normal values of log-normal sizes: heavy-tailed."""
    shapes = {"embeddings.word": (30522, 768), "embeddings.position": (512, 768), "embeddings.type": (2, 768)}
    for block in range(12):
        shapes |= {f"layer{block}.{part}": (768, 768) for part in ("query", "key", "value", "attention")}
        shapes |= {f"layer{block}.intermediate": (3072, 768), f"layer{block}.output": (768, 3072)}
    shapes["pooler"] = (768, 768)
    generator = np.random.default_rng(0)
    return {name: _heavy_tailed(shape, generator) for name, shape in shapes.items()}


def _heavy_tailed(shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    normal, size = (generator.standard_normal(shape, np.float32) for _ in range(2))
    result: NDArray[np.float32] = np.float32(0.02) * normal * np.exp(SPREAD * size, out=size)
    return result


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _read(weights: Weights) -> float:
    """One reading of all the memory, by as many threads as judge it: the sum of every value."""
    from quantizers import _fused

    chunks = [part for weight in weights.values() for part in np.array_split(weight.ravel(), max(1, weight.size >> 20))]
    with ThreadPoolExecutor(processors()) as pool:
        return float(sum(pool.map(_fused.total, chunks)))


def _naive(weight: NDArray[np.float32]) -> list[tuple[float, float, float]]:
    """MSE, SQNR and cosine for each granularity and bit width by whole-array expressions."""
    figures = []
    for reach in (np.abs(weight).max(), np.abs(weight).max(axis=1, keepdims=True)):
        for bits in BITS:
            largest = 2 ** (bits - 1) - 1
            scale = reach / largest
            restored = np.clip(np.rint(weight / scale), -largest, largest) * scale
            noise, signal = np.mean((weight - restored) ** 2), np.mean(weight**2)
            cosine = np.sum(weight * restored) / np.sqrt(np.sum(weight**2) * np.sum(restored**2))
            figures.append((float(noise), float(10 * np.log10(signal / noise)), float(cosine)))
    return figures


def _difference(ours: WeightErrors, weight: NDArray[np.float32]) -> float:
    """The largest relative difference of any figure from the exact mathematics, in float64."""
    worst = 0.0
    for row, granularity in enumerate(GRANULARITIES):
        for column, bits in enumerate(BITS):
            params = min_max_params(weight, bits, granularity=granularity)
            exact = tensor_error(weight, dequantize(quantize(weight, params), params))
            assert exact.sqnr_db is not None, "heavy tails lie on no grid"
            assert exact.cosine is not None, "no weight of the model is all zero"
            figures = ours.mse[row, column] / exact.mse, ours.sqnr_db[row, column] / exact.sqnr_db
            worst = max(worst, *(abs(ratio - 1) for ratio in (*figures, ours.cosine[row, column] / exact.cosine)))
    return worst


def _first_call_seconds() -> tuple[float, float]:
    """What the first call costs, compiling included: on a machine that never ran it, and in a later process."""
    code = (
        "import time, numpy; from quantizers.weight_error import weight_errors; began = time.perf_counter();"
        "weight_errors({'w': numpy.ones((2, 2))}); print(time.perf_counter() - began)"
    )
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder:
        once, again = (
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env=environ | {"NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for _ in range(2)
        )
    return float(once), float(again)
