"""How long trials that are not stored yet will take, learnt as for those that are (`experiments.jobs.eta`); never a guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.jobs.eta import Durations
from experiments.jobs.settings import Settings
from experiments.spec import TrialSpec
from experiments.store.queue import Taken
from quantizers.schema import Status


def taken(runs: Iterable[Mapping[str, Any]], model: str) -> list[Taken]:
    """What the stages of finished runs of a model took, from their documents; the store answers the same by query."""
    return [
        Taken(run["backend"], run["technique"], run["measurement"]["latency"], run["provenance"]["seconds"])
        for run in runs
        if run["model"] == model and run["status"] == Status.DONE.value and run["provenance"].get("seconds")
    ]


def total(durations: Durations, trials: Sequence[TrialSpec]) -> float | None:
    """Seconds for trials quantized side by side and then timed one after another; None when nothing is known of one."""
    wanted = [
        {"backend": trial.backend.value, "technique": trial.technique, "measurement": {"latency": trial.measurement.latency}}
        for trial in trials
    ]
    quantizing = [durations.quantizing(one) for one in wanted]
    timing = [durations.timing(one) for one in wanted]
    known = [seconds for seconds in (*quantizing, *timing) if seconds is not None]
    if len(known) < 2 * len(wanted):
        return None
    side_by_side = known[: len(wanted)]
    return max(*side_by_side, sum(side_by_side) / Settings.read().children) + sum(known[len(wanted) :])


def alone(durations: Durations, run: Mapping[str, Any]) -> float | None:
    """Seconds a queued run takes once it has begun."""
    parts = durations.quantizing(run), durations.timing(run)
    return None if parts[0] is None or parts[1] is None else parts[0] + parts[1]
