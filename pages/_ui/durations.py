"""How long trials take, learnt from trials that finished; there is no table of guesses behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from experiments.spec import TrialSpec
from quantizers.schema import Status

MIN_PROGRESS = 0.1
"""Below this fraction, progress says too little about the whole to extrapolate from."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a trial's duration depends on most."""

    model: str
    backend: str
    technique: str
    latency: str

    @classmethod
    def of_trial(cls, trial: TrialSpec) -> Kind:
        return cls(trial.model, trial.backend.value, trial.technique, trial.measurement.latency.value)

    @classmethod
    def of_run(cls, run: Mapping[str, Any]) -> Kind:
        return cls(run["model"], run["backend"], run["technique"], run["measurement"]["latency"])


class Durations:
    """Typical seconds of a kind of trial: those of the same kind, else of the same model, backend and latency protocol."""

    def __init__(self, runs: Iterable[Mapping[str, Any]]) -> None:
        seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for run in runs:
            if run["status"] == Status.DONE.value and run.get("started") and run.get("finished"):
                for key in _keys(Kind.of_run(run)):
                    seconds[key].append(run["finished"] - run["started"])
        self._typical = {key: median(values) for key, values in seconds.items()}

    def typical(self, kind: Kind) -> float | None:
        """Seconds such a trial takes; None when nothing like it has finished."""
        return next((self._typical[key] for key in _keys(kind) if key in self._typical), None)

    def total(self, kinds: Iterable[Kind]) -> float | None:
        """Seconds for all of `kinds`, one after another; None when one of them is unknown."""
        each = [self.typical(kind) for kind in kinds]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) if len(known) == len(each) else None

    def remaining(self, run: Mapping[str, Any], now: float) -> float | None:
        """Seconds until an active run is done: by its like, else by its own progress; None when neither tells."""
        typical = self.typical(Kind.of_run(run))
        if not run.get("started"):
            return typical
        elapsed: float = now - run["started"]
        if typical is not None and elapsed < typical:
            return typical - elapsed
        progress: float = run["progress"]
        return elapsed * (1 - progress) / progress if progress >= MIN_PROGRESS else None


def _keys(kind: Kind) -> tuple[tuple[str, ...], ...]:
    return (kind.model, kind.backend, kind.latency, kind.technique), (kind.model, kind.backend, kind.latency)
