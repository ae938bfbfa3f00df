"""What comparing a quantized model with float layer by layer costs, beside ONNX Runtime's own `qdq_loss_debug`.

Both run the same 64 photos through the same two files, EfficientNet-Lite0 in float32 and in static int8, in turns and each in
fresh processes. Memory is what a process needs above what it held when both models were loaded and warm.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from statistics import median
from typing import Any

from benchmarks.suite.figure import Figure, Figures

ROUNDS = 3
OURS, PEER, PREPARE = "ours", "loss_debug", "prepare"
MOST_PASSES, MOST_BYTES, LEAST_RATIO = 4.0, 1e9, 5.0


def run() -> Figures:
    """Seconds, memory and agreement of both; medians of the rounds."""
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder:
        _child(PREPARE, folder)
        rounds = [(_child(OURS, folder), _child(PEER, folder)) for _ in range(ROUNDS)]
    ours = {name: median(one[name] for one, _ in rounds) for name in ("seconds", "bytes", "forward_seconds")}
    peer = {name: median(other[name] for _, other in rounds) for name in ("seconds", "bytes")}
    return {
        "passes": Figure(ours["seconds"] / ours["forward_seconds"], "float + int8 passes", MOST_PASSES),
        "seconds": Figure(ours["seconds"], "s"),
        "memory": Figure(ours["bytes"], "B", MOST_BYTES),
        "loss_debug_seconds": Figure(peer["seconds"], "s"),
        "loss_debug_memory": Figure(peer["bytes"], "B"),
        "faster": Figure(peer["seconds"] / ours["seconds"], "×", LEAST_RATIO),
        "smaller": Figure(peer["bytes"] / ours["bytes"], "×", LEAST_RATIO),
        "layers": Figure(rounds[0][0]["layers"], "layers"),
        "loss_debug_tensors": Figure(rounds[0][1]["layers"], "tensors"),
        "output_sqnr": Figure(rounds[0][0]["sqnr_db"], "dB"),
        "loss_debug_output_sqnr": Figure(rounds[0][1]["sqnr_db"], "dB"),
    }


def _child(what: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.suite._fidelity_process", what, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document
