"""What an experiment saves: its trials run together, against the same trials each by itself on an empty data directory.

Both go through the command line, latency included. The figures of both have to agree: where nothing is timed they are equal,
and of what is timed each has an interval. Two sound 95 % intervals of one value overlap nearly always, but each holds the
other's midpoint only about five times in six, so both shares are printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.suite.figure import Figure, Figures
from quantizers.schema import Backend

ROOT = Path(__file__).parents[2]
MODEL = "fashion-cnn"
BACKENDS = (Backend.PYTORCH, Backend.TFLITE)
TARGET = 1.5
"""How many times faster the experiment is to be than its trials alone."""
TEN = 10
Run = dict[str, Any]
Key = tuple[str, str]
TIMED = (("p50_ms", "p50_ci95_ms"), ("speedup", "speedup_ci95"))


@dataclass(frozen=True, slots=True)
class Measured:
    """Finished runs by backend and technique, and how long all of them took from command to prompt."""

    runs: dict[Key, Run]
    seconds: float

    def stages(self) -> Counter[str]:
        """Seconds of every stage, over all runs; those that ran side by side count both."""
        total: Counter[str] = Counter()
        for run in self.runs.values():
            total.update(run["provenance"]["seconds"])
        return total


def run(backends: Sequence[Backend] = BACKENDS, techniques: int | None = None) -> Figures:
    """Every technique that “all” stands for, or the first `techniques` that each of the backends has."""
    together = _measure(backends, ["all"] if techniques is None else _common(backends)[:techniques])
    alone = [_measure([Backend(backend)], [code]) for backend, code in together.runs]
    runs = {key: run for one in alone for key, run in one.runs.items()}
    return _figures(together, Measured(runs, sum(one.seconds for one in alone)))


def run_ten() -> Figures:
    """The same with ten techniques of one backend."""
    return run((Backend.TFLITE,), TEN)


def _figures(together: Measured, alone: Measured) -> Figures:
    stages, alone_stages = together.stages(), alone.stages()
    figures = {
        "speedup": Figure(alone.seconds / together.seconds, "×", TARGET),
        "together": Figure(together.seconds, "s"),
        "alone": Figure(alone.seconds, "s"),
        "trials": Figure(len(alone.runs), "trials"),
        **_agreement(together, alone),
    }
    for stage in alone_stages:
        figures[f"together, {stage}"] = Figure(stages[stage], "s")
        figures[f"alone, {stage}"] = Figure(alone_stages[stage], "s")
    figures["alone, everything else"] = Figure(alone.seconds - alone_stages.total(), "s")
    return figures


def _agreement(together: Measured, alone: Measured) -> Figures:
    """How many of the shared figures are what the trials found alone; those that are not are named on standard error."""
    equal, inside, overlapping, timed = 0, 0, 0, 0
    for key, other in alone.runs.items():
        one = together.runs[key]
        exact = all(one[section] == other[section] for section in ("quality", "size", "layers"))
        equal += exact
        if not exact:
            print(f"{key}: other figures together than alone", file=sys.stderr)
        for value, interval in TIMED if other["latency"] and one["latency"] else ():
            (low, high), (other_low, other_high) = one["latency"][interval], other["latency"][interval]
            mutual = other_low <= one["latency"][value] <= other_high and low <= other["latency"][value] <= high
            timed, inside, overlapping = timed + 1, inside + mutual, overlapping + (low <= other_high and other_low <= high)
            if not mutual:
                print(f"{key}: {value} {low:.4g} to {high:.4g} together, {other_low:.4g} to {other_high:.4g}", file=sys.stderr)
    return {
        "trials with equal figures": Figure(equal, "trials", len(alone.runs)),
        "timed figures": Figure(timed, "figures"),
        "timed, inside each other's interval": Figure(inside, "figures", timed),
        "timed, overlapping intervals": Figure(overlapping, "figures", timed),
    }


def _measure(backends: Sequence[Backend], techniques: Sequence[str]) -> Measured:
    """One command on an empty data directory; its finished runs."""
    arguments = ["run", "--model", MODEL, *(part for one in backends for part in ("--backend", one.value))]
    arguments += [part for one in techniques for part in ("--technique", one)]
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder, _no_worker_left(folder):
        began = time.perf_counter()
        runs = _command(folder, *arguments)["runs"]
        seconds = time.perf_counter() - began
    unfinished = [run for run in runs if run["status"] not in ("done", "unavailable")]
    for run in unfinished:
        print(f"{run['backend']} {run['technique']}: {run['status']}: {run['error']}", file=sys.stderr)
    return Measured({(run["backend"], run["technique"]): run for run in runs if run["status"] == "done"}, seconds)


def _common(backends: Sequence[Backend]) -> list[str]:
    """The techniques that all the backends have, as the first of them lists them."""
    available = []
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder:
        for backend in backends:
            listed = _command(folder, "techniques", "--backend", backend.value)["techniques"]
            available.append([one["code"] for one in listed if one["available"] and not one["code"].startswith("mixed")])
    return [code for code in available[0] if all(code in one for one in available)]


def _command(folder: str, *arguments: str) -> dict[str, Any]:
    """What the command line prints with a data directory of its own."""
    command = [sys.executable, "-m", "experiments", *arguments, "--json"]
    environment = os.environ | {"QUANTSCOPE_HOME": folder}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@contextmanager
def _no_worker_left(folder: str) -> Iterator[None]:
    """Ends the worker of a data directory, which would wait for more, before the directory goes."""
    try:
        yield
    finally:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("QUANTSCOPE_HOME") == folder:
                    process.kill()
                    process.wait(10)
