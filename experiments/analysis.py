"""Analyses of a float model in a process of their own: layer sensitivity, and the mixed-precision frontier built on it.

`Analyses` starts one, tells how far it is, and keeps what it found as JSON under the digest of what was asked, so that pages
and the command line share results. The process writes its progress and its document as files, and ends with whoever started
it. Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._session import ROOT, THREAD_VARIABLES, raised
from benchmarks.sensitivity.report import MALLOC, Metric, Mode, check_bits
from experiments.frontier import Objective
from experiments.home import home
from experiments.spec import MAX_THREADS, default_data
from quantizers.errors import BackendCrashed, BadData, InputError, QuantScopeError
from quantizers.schema import Status

SCHEMA = 1
FRONTIER_BITS = (4, 8, 16)
"""Widths that every backend can store."""
MIXED_BITS = (2, 4, 8, 16)
MOST_POINTS = 200
_LAST_WORDS = 2000
_processes: dict[Path, subprocess.Popen[bytes]] = {}
"""By folder, those that this process started: their standard input is the leash that ends them with it."""


@dataclass(frozen=True, slots=True)
class FrontierOptions:
    """What a frontier asks for beyond sensitivities.

    Attributes:
        points: budgets from the least to the largest cost.
        verify: whether every point is really rounded and run.
        at: further budgets, each in the objective's unit.
    """

    points: int = 10
    verify: bool = True
    objective: Objective = Objective.BYTES
    at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.points <= MOST_POINTS:
            raise BadData(f"{self.points} points were asked for.", f"Ask for 1 to {MOST_POINTS}.")


@dataclass(frozen=True, slots=True)
class AnalysisSpec:
    """One analysis. `samples` None means 256 or all there are in the calibration split.

    Raises:
        BadData: no widths, or such as cannot be, or fewer than one sample.
        InputError: an impossible number of threads.
    """

    model: str
    data: str
    mode: Mode = Mode.FAST
    metric: Metric = Metric.SQNR
    bits: tuple[int, ...] = (4, 8)
    samples: int | None = None
    seed: int = 0
    threads: int = 1
    frontier: FrontierOptions | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.samples is not None and self.samples < 1:
            raise BadData(f"{self.samples} samples were asked for.", "Ask for at least 1.")
        if not 1 <= self.threads <= MAX_THREADS:
            raise InputError(f"{self.threads} threads were asked for.", f"Give a number from 1 to {MAX_THREADS}.")
        if self.frontier and (unknown := set(self.bits) - set(MIXED_BITS)):
            what = f"Mixed precision stores no weights of {', '.join(map(str, sorted(unknown)))} bits."
            raise BadData(what, "Choose from 2, 4, 8 and 16.")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @classmethod
    def of(cls, model: str, data: str | None = None, **choices: Any) -> AnalysisSpec:
        """An analysis on the model's own data unless `data` says otherwise.

        Raises:
            UnknownName: there is no such model.
            Unsupported: it cannot be used here.
        """
        own = default_data(model)
        return cls(model, data or own, **choices)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> AnalysisSpec:
        """Reads what `asdict` and JSON made of one."""
        frontier = stored["frontier"]
        if frontier is not None:
            frontier = FrontierOptions(
                frontier["points"], frontier["verify"], Objective(frontier["objective"]), tuple(frontier["at"])
            )
        choices = {name: stored[name] for name in ("model", "data", "samples", "seed", "threads")}
        mode, metric = Mode(stored["mode"]), Metric(stored["metric"])
        return cls(**choices, mode=mode, metric=metric, bits=tuple(stored["bits"]), frontier=frontier)


@dataclass(frozen=True, slots=True)
class State:
    """Where an analysis is. `document` is there when it is done, `error` when it failed."""

    status: Status
    fraction: float = 0.0
    words: str = ""
    document: dict[str, Any] | None = None
    error: QuantScopeError | None = None


class Analyses:
    """The analyses of one data directory."""

    def __init__(self, folder: Path | None = None) -> None:
        self._root = (folder or home()) / "analyses"

    def start(self, spec: AnalysisSpec, *, anew: bool = False) -> None:
        """Starts an analysis unless it is at work here or, without `anew`, has been done. Returns at once."""
        if self.state(spec).status in ((Status.RUNNING,) if anew else (Status.RUNNING, Status.DONE)):
            return
        folder = self.folder(spec)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("result.json", "progress.json"):
            (folder / name).unlink(missing_ok=True)
        (folder / "spec.json").write_text(json.dumps(asdict(spec)), encoding="utf-8")
        with (folder / "log").open("wb") as log:
            _processes[folder] = subprocess.Popen(
                [sys.executable, "-m", "experiments.analysis_process", str(folder)],
                cwd=ROOT,
                env=os.environ | MALLOC | dict.fromkeys(THREAD_VARIABLES, str(spec.threads)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def state(self, spec: AnalysisSpec) -> State:
        """QUEUED stands for one that has not been started."""
        folder = self.folder(spec)
        process = _processes.get(folder)
        running = process is not None and process.poll() is None
        if result := _read(folder / "result.json"):
            if "error" in result:
                return State(Status.FAILED, error=raised(result["error"]))
            return State(Status.DONE, 1.0, document=result)
        if running:
            progress = _read(folder / "progress.json") or {"fraction": 0.0, "words": "starting"}
            return State(Status.RUNNING, progress["fraction"], progress["words"])
        if process is not None:
            return State(Status.FAILED, error=_crash(process.returncode, folder / "log"))
        return State(Status.QUEUED)

    def stop(self, spec: AnalysisSpec) -> None:
        """Ends an analysis that this process started."""
        if process := _processes.pop(self.folder(spec), None):
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()

    def kept(self) -> list[AnalysisSpec]:
        """Those that have a result, the newest first; a failure is none."""
        results = sorted(self._root.glob("*/result.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        found = [_read(path.with_name("spec.json")) for path in results if "error" not in (_read(path) or {"error": None})]
        return [AnalysisSpec.from_dict(stored) for stored in found if stored and stored["schema"] == SCHEMA]

    def folder(self, spec: AnalysisSpec) -> Path:
        """Where an analysis keeps its files: spec.json, progress.json, result.json and the log."""
        return self._root / spec.digest


def _read(path: Path) -> dict[str, Any] | None:
    """A document that is written in one step, or None while there is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return document


def _crash(returncode: int, log: Path) -> BackendCrashed:
    tail = log.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS:]
    return BackendCrashed(f"The analysis ended with code {returncode} before it had a result.", f"Its last words: {tail}")
