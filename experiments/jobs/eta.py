"""How long is left, learnt from what earlier runs of the same model took; None where nothing is known, never a guess."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from experiments.jobs.settings import Settings
from experiments.spec import LatencyProtocol
from experiments.store.queue import QUANTIZE_SHARE, Phase, Taken
from experiments.store.store import Store
from quantizers.schema import Status, Technique

LATENCY = "latency"
LEAST_PROGRESS = 0.1
"""Below this fraction, progress says too little about the whole to extrapolate from."""
Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Forecast:
    """How far an experiment is: how its runs stand, a fraction in [0, 1], and the seconds left, None when not known."""

    counts: Mapping[Status, int]
    fraction: float
    seconds: float | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        return sum(count for status, count in self.counts.items() if not status.active)


class Durations:
    """Typical seconds of a phase: of the same technique, else of the same mode, else of any technique of the backend."""

    def __init__(self, taken: Iterable[Taken]) -> None:
        seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for one in taken:
            quantizing = sum(value for stage, value in one.seconds.items() if stage != LATENCY)
            for key in _keys(one.backend, one.technique):
                seconds[Phase.QUANTIZE, *key].append(quantizing)
                # Of a model that is only simulated no latency was measured: that took no time.
                seconds[Phase.LATENCY, one.latency, *key].append(one.seconds.get(LATENCY, 0.0))
        self._typical = {key: median(values) for key, values in seconds.items()}

    def quantizing(self, run: Run) -> float | None:
        return self._find((Phase.QUANTIZE,), run)

    def timing(self, run: Run) -> float | None:
        """The run's share of a joint measurement."""
        protocol = run["measurement"]["latency"]
        return 0.0 if protocol == LatencyProtocol.NONE.value else self._find((Phase.LATENCY, protocol), run)

    def _find(self, what: tuple[str, ...], run: Run) -> float | None:
        keys = ((*what, *key) for key in _keys(run["backend"], run["technique"]))
        return next((self._typical[key] for key in keys if key in self._typical), None)


def eta(store: Store, run: Run) -> float | None:
    """Seconds of work left in an active run, of waiting for others none; None when nothing is known."""
    durations = Durations(store.seconds_taken(run["model"]))
    now = time.time()
    return _sum((_quantizing_left(durations, run, now), _timing_left(durations, run, now)))


def forecast(store: Store, experiment_id: str) -> Forecast:
    """How far an experiment is, its trials quantized side by side and then timed."""
    runs = store.runs(experiment_id=experiment_id)
    active = [run for run in runs if Status(run["status"]).active]
    fraction = (len(runs) - len(active) + sum(run["progress"] for run in active)) / max(1, len(runs))
    counts = Counter(Status(run["status"]) for run in runs)
    return Forecast(counts, fraction, _all_left(store, active) if active else 0.0)


def _all_left(store: Store, active: Sequence[Run]) -> float | None:
    durations, now = Durations(store.seconds_taken(active[0]["model"])), time.time()
    quantizing = [_quantizing_left(durations, run, now) for run in active]
    known = [seconds for seconds in quantizing if seconds is not None]
    if len(known) < len(quantizing):
        return None
    side_by_side = max(*known, sum(known) / Settings.read().children)
    return _sum((side_by_side, _sum(_timing_left(durations, run, now) for run in active)))


def _quantizing_left(durations: Durations, run: Run, now: float) -> float | None:
    if run["phase"] != Phase.QUANTIZE.value:
        return 0.0
    timed = run["measurement"]["latency"] != LatencyProtocol.NONE.value
    return _left(durations.quantizing(run), run, now, run["progress"] / (QUANTIZE_SHARE if timed else 1.0))


def _timing_left(durations: Durations, run: Run, now: float) -> float | None:
    if run["phase"] != Phase.LATENCY.value:
        return durations.timing(run)
    return _left(durations.timing(run), run, now, (run["progress"] - QUANTIZE_SHARE) / (1.0 - QUANTIZE_SHARE))


def _left(typical: float | None, run: Run, now: float, progress: float) -> float | None:
    """Seconds left of the phase a run is in: by its like, or by its own progress once it takes longer than they did."""
    if run["status"] != Status.RUNNING.value:
        return typical
    elapsed: float = max(0.0, now - run["phase_started"])
    if typical is not None and elapsed < typical:
        return typical - elapsed
    return elapsed * (1.0 - progress) / progress if progress >= LEAST_PROGRESS else None


def _sum(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _keys(backend: str, technique: str) -> Iterator[tuple[str, ...]]:
    yield backend, technique
    yield backend, f"mode {Technique.parse(technique).mode.value}"
    yield (backend,)
