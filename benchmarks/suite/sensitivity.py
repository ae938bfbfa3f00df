"""What ranking layers by sensitivity costs, in evaluation passes of the same engine, and how well the estimate ranks them.

Both modes run through the command line, as people run them. Passes are timed batch by batch beside the work they are compared
with. An exact run's cost is given per width; the estimate answers for all widths at once.
"""

from __future__ import annotations

from typing import Any

from benchmarks.suite.command import document
from benchmarks.suite.figure import Figure, Figures

MODELS = ("fashion-resnet", "efficientnet-lite0")
BITS = (4, 8)
FAST_PASSES, EXACT_PASSES, SPEARMAN = 6.0, 25.0, 0.93


def run() -> Figures:
    """Cost of both modes and rank correlation between them, for each model."""
    figures: Figures = {}
    for model in MODELS:
        fast, exact = (_analysis(model, mode) for mode in ("fast", "exact"))
        figures[f"{model}_fast"] = Figure(fast["cost_passes"], "passes", FAST_PASSES)
        figures[f"{model}_exact"] = Figure(exact["cost_passes"] / len(BITS), "passes a width", EXACT_PASSES)
        figures[f"{model}_pass"] = Figure(exact["pass_seconds"], "s")
        for bits in BITS:
            figures[f"{model}_spearman_w{bits}"] = Figure(
                _spearman(fast, exact, bits), f"over {_layers(exact)} layers", SPEARMAN
            )
    return figures


def _analysis(model: str, mode: str) -> dict[str, Any]:
    return document("sensitivity", "--model", model, "--mode", mode, "--bits", ",".join(map(str, BITS)))


def _losses(analysis: dict[str, Any], bits: int) -> list[float]:
    return [row["loss"] for row in analysis["layers"] if row["bits"] == bits]


def _layers(analysis: dict[str, Any]) -> int:
    return len({row["name"] for row in analysis["layers"]})


def _spearman(fast: dict[str, Any], exact: dict[str, Any], bits: int) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(_losses(fast, bits), _losses(exact, bits)).statistic)
