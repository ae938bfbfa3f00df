"""How long describing the weights of a model takes: quantizing each and all its error figures, per million weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.suite.figure import Figure, Figures
from models import zoo
from quantizers.numerics import min_max_params, quantization_error, quantize
from quantizers.schema import Granularity

MODEL = "fashion-resnet"
REPEATS = 7
TARGET_SECONDS = 0.2
"""Per million weights: a model of 5 million is described within a second."""


def run() -> Figures:
    """8 bits per channel over every weight of a bundled model; the median of a few repetitions."""
    model = zoo.load(MODEL)
    weights = [model.weights[f"{name}.weight"] for name in model.layer_names]
    count = sum(weight.size for weight in weights)
    seconds = median(_describe(weights) for _ in range(REPEATS))
    return {
        "seconds_per_million_weights": Figure(seconds / count * 1e6, "s", TARGET_SECONDS),
        "weights": Figure(count, "weights"),
    }


def _describe(weights: Sequence[NDArray[np.float32]]) -> float:
    """Seconds it takes."""
    began = time.perf_counter()
    for weight in weights:
        params = min_max_params(weight, 8, granularity=Granularity.PER_CHANNEL)
        quantization_error(weight, quantize(weight, params), params)
    return time.perf_counter() - began
