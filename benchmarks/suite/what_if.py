"""How long a what-if question about one tensor takes, whatever its size: asked of its sketch, as the playground does.

The questions run from the largest tensor of BERT-base's shapes down to one of a thousandth of its size; every bit width, scheme
and granularity is asked. The sketches are read from a file, as the page reads them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.suite.figure import Figure, Figures
from benchmarks.suite.weight_analysis import bert_base
from quantizers import sketch_file
from quantizers.numerics import min_max_params, quantization_error, quantize
from quantizers.schema import Granularity, Scheme
from quantizers.sketch import Question, Sketch, estimate, sketch_key
from quantizers.sketch_build import TensorSketches, build_sketches
from quantizers.sketch_clipping import Clipping, best_clip

TENSORS = ("embeddings.word", "layer0.intermediate", "layer0.query", "embeddings.type")
BITS = (2, 3, 4, 6, 8)
CLIPS = ((1.0, 1.0), (0.6, 0.6))
REPEATS = 5
MOST_MS = 5.0
MOST_DB = 0.1
CHECKED = "layer0.query"


def run() -> Figures:
    """The slowest and the median question, the best clip of a tensor, and how near the answers are to the exact ones."""
    weights = {name: weight for name, weight in bert_base().items() if name in TENSORS}
    build_sketches({"compiles": np.ones((2, 200))})
    began = time.perf_counter()
    built = build_sketches(weights)
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder:
        path = Path(folder) / "sketches.npz"
        sketch_file.write(path, built)
        file = sketch_file.SketchFile(path)
        times = {name: [_milliseconds(file.sketch(name, key), q) for key, q in _questions()] for name in TENSORS}
        megabytes = path.stat().st_size / 1e6
        whole = file.sketch(TENSORS[0], sketch_key(Granularity.PER_TENSOR, Scheme.AFFINE))
    began = time.perf_counter()
    best_clip(whole, 4, Scheme.AFFINE, Clipping.MSE)
    search = time.perf_counter() - began
    figures = {f"slowest_of_{weights[name].size}_weights": Figure(max(times[name]), "ms", MOST_MS) for name in TENSORS}
    return figures | {
        "median": Figure(float(np.median([one for each in times.values() for one in each])), "ms"),
        "best_clip": Figure(1e3 * search, "ms"),
        "largest_difference": Figure(_difference(weights[CHECKED], built[CHECKED]), "dB", MOST_DB),
        "build_per_million_weights": Figure(1e9 * seconds / sum(w.size for w in weights.values()), "ms"),
        "file": Figure(megabytes, "MB"),
    }


def _questions() -> Iterator[tuple[str, Question]]:
    for granularity in (Granularity.PER_TENSOR, Granularity.PER_CHANNEL, Granularity.PER_GROUP):
        for scheme in Scheme:
            for bits in BITS:
                yield from ((sketch_key(granularity, scheme, 64), Question(bits, scheme, clip)) for clip in CLIPS)


def _milliseconds(sketch: Sketch, question: Question) -> float:
    """The shortest of a few: what other work adds is not the question's own."""
    estimate(sketch, question)
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        estimate(sketch, question)
        taken.append(time.perf_counter() - began)
    return 1e3 * min(taken)


def _difference(x: NDArray[np.float32], tensor: TensorSketches) -> float:
    """The largest difference in dB of a symmetric grid's SQNR from the exact one, over bits, granularities and clips."""
    worst = 0.0
    for granularity in Granularity:
        sketch = tensor.sketches[sketch_key(granularity, Scheme.SYMMETRIC, 64)]
        for bits in BITS:
            for clip in CLIPS:
                params = min_max_params(x, bits, granularity=granularity, group_size=64, clip=clip)
                exact = quantization_error(x, quantize(x, params), params).sqnr_db
                found = estimate(sketch, Question(bits, clip=clip)).sqnr_db
                assert exact is not None, "heavy tails lie on no grid"
                assert found is not None, "heavy tails lie on no grid"
                worst = max(worst, abs(found - exact))
    return worst
