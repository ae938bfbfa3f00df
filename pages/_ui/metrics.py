"""The figures a run is judged by, as data: name, unit, direction, where to read them. Axes and budgets share this list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pages._ui import format as fmt

Run = Mapping[str, Any]
Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a run.

    Attributes:
        axis: title of an axis, with unit.
        superlative: what the best run of several is by this figure: "the smallest".
        value: reads the figure in the axis's unit; None when the run has none.
        text: the figure as a person reads it.
        bounds: its 95 % interval in the axis's unit; None when it has none.
        noise: whether it is a difference, which an interval that holds 0 makes noise.
        section: the part of a run's document it comes from.
    """

    id: str
    title: str
    axis: str
    lower_is_better: bool
    superlative: str
    section: str
    value: Callable[[Run], float | None]
    text: Callable[[float], str]
    bounds: Callable[[Run], Bounds | None] = lambda _run: None
    noise: bool = False

    def judged(self, run: Run) -> float | None:
        """The figure as runs are ranked by it: a difference within noise is none."""
        value, bounds = self.value(run), self.bounds(run)
        return 0.0 if self.noise and bounds and bounds[0] <= 0 <= bounds[1] else value

    def better(self, a: float, b: float) -> bool:
        return a < b if self.lower_is_better else a > b


def _read(section: str, name: str, factor: float = 1.0) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        found = (run.get(section) or {}).get(name)
        return None if found is None else float(found) * factor

    return value


def _bounds(section: str, name: str, factor: float = 1.0) -> Callable[[Run], Bounds | None]:
    def bounds(run: Run) -> Bounds | None:
        found = (run.get(section) or {}).get(name)
        if not found:
            return None
        low, high = sorted(factor * float(bound) for bound in found)
        return low, high

    return bounds


def memory_megabytes(run: Run) -> float | None:
    """Peak resident memory of the isolated process less what the runtime takes before it loads a model."""
    memory = run.get("memory")
    if not memory or memory.get("peak_rss_bytes") is None or memory.get("runtime_baseline_bytes") is None:
        return None
    return float(memory["peak_rss_bytes"] - memory["runtime_baseline_bytes"]) / 1e6


METRICS: Mapping[str, Metric] = {
    metric.id: metric
    for metric in (
        Metric(
            id="size",
            title="Size",
            axis="File size (KB)",
            lower_is_better=True,
            superlative="the smallest",
            section="size",
            value=_read("size", "bytes", 1e-3),
            text=lambda kilobytes: fmt.size(1000 * kilobytes),
        ),
        Metric(
            id="latency",
            title="Latency",
            axis="Latency, p50 (ms)",
            lower_is_better=True,
            superlative="the fastest",
            section="latency",
            value=_read("latency", "p50_ms"),
            text=fmt.milliseconds,
            bounds=_bounds("latency", "p50_ci95_ms"),
        ),
        Metric(
            id="accuracy",
            title="Accuracy",
            axis="Top-1 accuracy (%)",
            lower_is_better=False,
            superlative="the most accurate",
            section="quality",
            value=_read("quality", "top1", 100),
            text=lambda percent: fmt.percent(percent / 100, 2),
            bounds=_bounds("quality", "top1_ci95", 100),
        ),
        Metric(
            id="change",
            title="Accuracy change",
            axis="Top-1 accuracy against float (points)",
            lower_is_better=False,
            superlative="the one that keeps accuracy best",
            section="quality",
            value=_read("quality", "drop_pp", -1),
            text=lambda points: fmt.points(points, 2),
            bounds=_bounds("quality", "drop_pp_ci95", -1),
            noise=True,
        ),
        Metric(
            id="sqnr",
            title="Output SQNR",
            axis="SQNR of the model's output (dB)",
            lower_is_better=False,
            superlative="the closest to float",
            section="quality",
            value=_read("quality", "output_sqnr_db"),
            text=fmt.decibels,
        ),
        Metric(
            id="agreement",
            title="Agreement with float",
            axis="Same answer as float (%)",
            lower_is_better=False,
            superlative="the one that agrees with float most often",
            section="quality",
            value=_read("quality", "agreement", 100),
            text=lambda percent: fmt.percent(percent / 100, 2),
        ),
        Metric(
            id="memory",
            title="Memory",
            axis="Peak memory above the runtime's own (MB)",
            lower_is_better=True,
            superlative="the one that needs least memory",
            section="memory",
            value=memory_megabytes,
            text=lambda megabytes: fmt.size(1e6 * megabytes),
        ),
    )
}


def frontier(points: Sequence[tuple[float, float]], x: Metric, y: Metric) -> list[int]:
    """Indexes of the points that no other beats on both axes (or ties on one and beats on the other), by ascending x."""

    def beaten(mine: tuple[float, float], other: tuple[float, float]) -> bool:
        no_worse = not x.better(mine[0], other[0]) and not y.better(mine[1], other[1])
        return no_worse and (x.better(other[0], mine[0]) or y.better(other[1], mine[1]))

    kept = [index for index, mine in enumerate(points) if not any(beaten(mine, other) for other in points)]
    return sorted(kept, key=lambda index: points[index])


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to a budget: the best run of those that fit, and the sentence that says why."""

    run_id: str | None
    words: str


def choose(runs: Sequence[Run], names: Mapping[str, str], budget: Mapping[str, float], prefer: Metric) -> Choice:
    """Picks, of the runs that keep within every limit of `budget` (metric id → limit), the best by `prefer`."""
    fitting = [run for run in runs if all(_fits(METRICS[which], run, limit) for which, limit in budget.items())]
    ranked = [(value, run) for run in fitting if (value := prefer.value(run)) is not None]
    if not ranked:
        return Choice(None, _why_none(runs, names, budget))
    best_value, best = (min if prefer.lower_is_better else max)(ranked, key=lambda pair: pair[0])
    name, figure = names[best["run_id"]], prefer.text(best_value)
    if len(ranked) == 1:
        return Choice(best["run_id"], f"Fits your budget: **{name}**, because it is the only one that does ({figure}).")
    return Choice(
        best["run_id"],
        f"Fits your budget: **{name}**, because of the {len(ranked)} that do it is {prefer.superlative} ({figure}).",
    )


def _fits(metric: Metric, run: Run, limit: float) -> bool:
    value = metric.value(run)
    return value is not None and not metric.better(limit, value)


def _why_none(runs: Sequence[Run], names: Mapping[str, str], budget: Mapping[str, float]) -> str:
    """Names the limit that alone excludes most, and what comes nearest to it."""
    if not budget:
        return "None of these runs has that figure."
    excluded = {which: sum(not _fits(METRICS[which], run, limit) for run in runs) for which, limit in budget.items()}
    metric = METRICS[max(excluded, key=lambda which: excluded[which])]
    measured = [(value, run) for run in runs if (value := metric.value(run)) is not None]
    if not measured:
        return f"None fits: {metric.title.lower()} was measured for none of these runs."
    nearest, run = (min if metric.lower_is_better else max)(measured, key=lambda pair: pair[0])
    return f"None fits all of it. By {metric.title.lower()} the nearest is {names[run['run_id']]} ({metric.text(nearest)})."
