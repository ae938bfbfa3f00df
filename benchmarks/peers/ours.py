"""This project's own side: the same jobs, in processes like those of the peers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.peers.adapter import BITS, PHOTOS, THREADS, Found, Job, Peer, Task, measured, serve

OURS = Peer(
    "ours",
    "QuantScope",
    "benchmarks.peers.ours",
    {
        "activations": Task.ACTIVATIONS,
        "fast": Task.SENSITIVITY,
        "exact": Task.SENSITIVITY,
        "frontier": Task.SEARCH,
        "fused": Task.WEIGHTS,
    },
)
FRONTIER_POINTS = 8
JUDGED, CHOSEN = "judged.json", "chosen.json"
"""In the work folder: what the picks of the peers are worth, by title, and our choice at the bytes of each."""


def activations(folder: Path) -> Found:
    """Every layer's output error and histogram, of float and static int8 in ONNX Runtime."""
    from benchmarks.suite import _fidelity_process as process

    found = process._ours(folder, THREADS)
    return Found(found["seconds"], found["bytes"], layers=found["layers"])


def fast(folder: Path) -> Found:
    """Sensitivity by gradients."""
    return _sensitivity(folder, "fast")


def exact(folder: Path) -> Found:
    """Sensitivity by rounding each layer and running what follows it."""
    return _sensitivity(folder, "exact")


def _sensitivity(folder: Path, mode: str) -> Found:
    import numpy as np
    import torch

    from benchmarks.engine import Engine
    from benchmarks.peers.material import MODEL
    from benchmarks.sensitivity.analyse import analyse
    from benchmarks.sensitivity.report import Metric, Mode, Sensitivity
    from models import catalogue

    torch.set_num_threads(THREADS)
    module, photos = catalogue.load(MODEL).torch_module(), torch.from_numpy(np.load(folder / PHOTOS))

    def work() -> Sensitivity:
        choices = {"metric": Metric.SQNR, "labels": None, "seed": 0, "check": False}
        return analyse(Engine(module, photos), [BITS], mode=Mode(mode), report=lambda *_: None, **choices)  # type: ignore[arg-type]

    result, seconds, peak = measured(work)
    losses = result.losses(BITS)
    return Found(seconds, peak, layers=len(losses), ranking=losses, note=f"{result.cost_passes:.1f} passes")


def frontier(folder: Path) -> Found:
    """A whole frontier by the command line, process start and model loading included, with a point for each peer's bytes."""
    import resource

    from benchmarks.peers.material import MODEL, SAMPLES
    from benchmarks.suite.command import document

    picks: Mapping[str, Mapping[str, int]] = json.loads((folder / JUDGED).read_text(encoding="utf-8"))
    budgets = [text for pick in picks.values() for text in ("--at", str(pick["bytes"]))]
    options = ("--model", MODEL, "--points", str(FRONTIER_POINTS), "--samples", str(SAMPLES), "--threads", str(THREADS))
    found, seconds, _ = measured(lambda: document("frontier", *options, *budgets))
    # The work was done by children; the memory is that of the largest, its libraries included.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    points = {name: point["bits"] for name, point in zip(picks, found["at"], strict=True)}
    (folder / CHOSEN).write_text(json.dumps(points), encoding="utf-8")
    note = f"{len(found['points'])} points, process start and libraries included"
    return Found(seconds, peak, layers=len(found["widths"]), note=note)


def fused(_folder: Path) -> Found:
    """7 widths × 2 granularities: MSE, SQNR and cosine."""
    import numpy as np

    from benchmarks.suite.weight_analysis import bert_base
    from quantizers.weight_error import weight_errors

    weights = bert_base()
    weight_errors({"warm": np.ones((2, 2))})
    result, seconds, peak = measured(lambda: weight_errors(weights, threads=THREADS))
    return Found(seconds, peak, layers=len(result))


JOBS: Mapping[str, Job] = {"activations": activations, "fast": fast, "exact": exact, "frontier": frontier, "fused": fused}

if __name__ == "__main__":
    serve(JOBS)
