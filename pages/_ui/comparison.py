"""One run against another: ratios and differences with their intervals, and how far each of them can be trusted.

Against its own float baseline a run was measured in pairs: the same images, and latency interleaved in the same minutes. Any
other two runs were measured apart, so their interval is the wide one: Newcombe's for accuracy, for latency that of the bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, inf
from typing import Any

from pages._ui import format as fmt
from pages._ui.format import Verdict

Run = Mapping[str, Any]
Bounds = tuple[float, float]
EXACT = inf


@dataclass(frozen=True, slots=True)
class Relative:
    """A run against a baseline. None where one of the two has no such figure.

    Attributes:
        ratio: baseline bytes ÷ bytes, so more than 1 is smaller.
        change: top-1 accuracy less the baseline's, in points, with its 95 % interval.
        speedup: baseline p50 ÷ p50, with its 95 % interval.
    """

    ratio: float | None = None
    change: float | None = None
    change_bounds: Bounds | None = None
    speedup: float | None = None
    speedup_bounds: Bounds | None = None
    accuracy: Verdict | None = None
    speed: Verdict | None = None


def against_float(run: Run) -> Relative:
    """A run against float32 on the same backend, as its own trial measured it. A float baseline is compared with nothing."""
    if run["technique"] == "float32":
        return Relative(ratio=(run.get("size") or {}).get("ratio"))
    size, quality, latency = (run.get(section) or {} for section in ("size", "quality", "latency"))
    drop, bounds = quality.get("drop_pp"), quality.get("drop_pp_ci95")
    speedup = latency.get("speedup_ci95")
    return Relative(
        ratio=size.get("ratio"),
        accuracy=fmt.accuracy_verdict(quality),
        speed=fmt.speed_verdict(latency),
        change=None if drop is None else 0.0 - drop,
        change_bounds=None if not bounds else (0.0 - bounds[1], 0.0 - bounds[0]),
        speedup=latency.get("speedup"),
        speedup_bounds=(speedup[0], speedup[1]) if speedup else None,
    )


def against(run: Run, baseline: Run) -> Relative:
    """A run against any other run, measured apart. Accuracies on different data are not compared."""
    if run["run_id"] == baseline["run_id"]:
        return Relative(ratio=1.0)
    size, reference_size = run.get("size") or {}, baseline.get("size") or {}
    change, change_bounds = _accuracy(run, baseline)
    speedup, speedup_bounds = _latency(run.get("latency") or {}, baseline.get("latency") or {})
    return Relative(
        accuracy=_judge(change_bounds, 0.0, fmt.MORE_ACCURATE, fmt.LESS_ACCURATE, fmt.SAME_ACCURACY),
        speed=_judge(speedup_bounds, 1.0, fmt.FASTER, fmt.SLOWER, fmt.SAME_SPEED),
        ratio=reference_size["bytes"] / size["bytes"] if size.get("bytes") and reference_size.get("bytes") else None,
        change=change,
        change_bounds=change_bounds,
        speedup=speedup,
        speedup_bounds=speedup_bounds,
    )


def _accuracy(run: Run, baseline: Run) -> tuple[float | None, Bounds | None]:
    mine, other = run.get("quality") or {}, baseline.get("quality") or {}
    if mine.get("top1") is None or other.get("top1") is None or _data(run) != _data(baseline):
        return None, None
    difference = mine["top1"] - other["top1"]
    (low, high), (other_low, other_high) = mine["top1_ci95"], other["top1_ci95"]
    below = hypot(mine["top1"] - low, other_high - other["top1"])
    above = hypot(high - mine["top1"], other["top1"] - other_low)
    return 100 * difference, (100 * (difference - below), 100 * (difference + above))


def _data(run: Run) -> tuple[Any, ...]:
    conditions = run["measurement"]
    return conditions["data"], conditions["eval_samples"], conditions["seed"]


def _latency(mine: Run, other: Run) -> tuple[float | None, Bounds | None]:
    if not mine.get("p50_ms") or not other.get("p50_ms"):
        return None, None
    (low, high), (other_low, other_high) = mine["p50_ci95_ms"], other["p50_ci95_ms"]
    return other["p50_ms"] / mine["p50_ms"], (other_low / high, other_high / low)


def _judge(bounds: Bounds | None, even: float, above: Verdict, below: Verdict, neither: Verdict) -> Verdict | None:
    if bounds is None:
        return None
    return above if bounds[0] > even else below if bounds[1] < even else neither


def relatives(runs: Sequence[Run], baseline: Run | None) -> list[Relative]:
    """Every run against `baseline`, or each against its own float baseline when there is none."""
    return [against(run, baseline) if baseline else against_float(run) for run in runs]


def layer_words(old: Run, new: Run, layer: str) -> str | None:
    """What became of one layer's output between two runs that carry their layers; None when one has no error of it."""
    before, after = (_output_sqnr(run, layer) for run in (old, new))
    if before is None or after is None:
        return None
    exact = "now exact" if after == EXACT else f"now {fmt.decibels(after)}"
    was = "exact" if before == EXACT else fmt.decibels(before)
    return f"Output SQNR of **{layer}**: {was} before, {exact}."


def _output_sqnr(run: Run, layer: str) -> float | None:
    """dB, infinite where there is no error at all."""
    found: Run = next((one["output"] or {} for one in run["layers"] if one["name"] == layer), {})
    value: float | None = found.get("sqnr_db")
    return EXACT if value is None and found.get("sqnr_db_why_not") == "exact" else value
