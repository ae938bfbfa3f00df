"""Documents of analyses made up for tests of pages: the shape of real ones, losses invented."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.sensitivity.report import Agreement, LayerLoss, Losses, Metric, Mode, Sensitivity
from experiments.frontier import Frontier, Knapsack, Objective, Width

LOSSES = {"conv1": 0.06, "conv2": 0.01, "conv3": 0.008, "dense": 0.002}


def analysis(metric: Metric = Metric.SQNR, spearman: float | None = 0.97, layers: int = 12) -> dict[str, Any]:
    rows = [
        LayerLoss(name=name, bits=bits, loss=loss / scale, losses=Losses())
        for name, loss in LOSSES.items()
        for bits, scale in ((4, 1), (8, 256))
    ]
    check = Agreement(
        spearman=spearman,
        spearman_why_not="all layers cost the same" if spearman is None else None,
        bits=4,
        layers=layers,
        samples=32,
        cost_passes=1.0,
        seconds=0.1,
    )
    found = Sensitivity(
        mode=Mode.FAST,
        metric=metric,
        samples=192,
        cost_passes=4.1,
        seconds=0.5,
        pass_seconds=0.12,
        layers=tuple(rows),
        agreement=check,
    )
    return asdict(found)


def frontier(metric: Metric = Metric.SQNR, objective: Objective = Objective.BYTES) -> dict[str, Any]:
    """A frontier over three layers whose measured losses are those predicted."""
    widths = {
        name: [Width(bits, loss / 4 ** (bits - 4), 1000 * size * bits, 5000 * bits) for bits in (4, 8)]
        for name, loss, size in (("a", 0.1, 1), ("b", 0.01, 4), ("c", 0.001, 2))
    }
    knapsack = Knapsack(widths, 100)
    points, uniform = knapsack.sweep(6, objective), knapsack.uniform()
    equal = tuple(knapsack.solve(point.bytes) for point in uniform)
    document = asdict(
        Frontier(
            mode=Mode.FAST,
            metric=metric,
            objective=objective,
            samples=64,
            float_bytes=224_100,
            sensitivity_passes=4.0,
            seconds=1.0,
            points=points,
            uniform=uniform,
            equal=equal,
            at=(),
            widths=knapsack.widths,
            fixed_bytes=100,
        )
    )
    for part in ("points", "uniform", "equal"):
        document[part] = [
            one | {"measured_loss": one["predicted_loss"], "measured": {"agreement": 0.98}} for one in document[part]
        ]
    return document
