"""How long a verified mixed-precision frontier takes, and what it gains over one width everywhere at equal bytes.

Chosen on calibration samples; losses and agreement are those of test samples that the choice has not seen, with the weights
really rounded and packed. SQNR and agreement are of the model's output.
"""

from __future__ import annotations

import time

from benchmarks.suite.command import document
from benchmarks.suite.figure import Figure, Figures

MODEL = "efficientnet-lite0"
POINTS = 12
LEAST_POINTS, MOST_SECONDS = 8, 60.0


def run() -> Figures:
    """Seconds from the shell, points, and gains over each uniform width."""
    began = time.perf_counter()
    found = document("frontier", "--model", MODEL, "--points", str(POINTS), "--verify")
    figures = {
        "seconds": Figure(time.perf_counter() - began, "s", MOST_SECONDS),
        "verified_points": Figure(sum(point["measured_loss"] is not None for point in found["points"]), "points", LEAST_POINTS),
    }
    for uniform, mixed in zip(found["uniform"], found["equal"], strict=True):
        bits = next(iter(uniform["bits"].values()))
        mine, theirs = mixed["measured"], uniform["measured"]
        figures[f"bytes_w{bits}"] = Figure(uniform["bytes"], "bytes")
        figures[f"bytes_mixed_at_w{bits}"] = Figure(mixed["bytes"], "bytes")
        figures[f"sqnr_w{bits}"] = Figure(theirs["sqnr_db"], "dB")
        figures[f"sqnr_mixed_at_w{bits}"] = Figure(mine["sqnr_db"], "dB", theirs["sqnr_db"])
        figures[f"agreement_w{bits}"] = Figure(theirs["agreement"], "of 1")
        figures[f"agreement_mixed_at_w{bits}"] = Figure(mine["agreement"], "of 1", theirs["agreement"])
    return figures
