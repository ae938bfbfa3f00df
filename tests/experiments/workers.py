"""Real workers that a test can watch and kill, and what a test waits for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from experiments.jobs.local import ROOT
from experiments.spec import LatencyProtocol, Measurement, Plan, TrialSpec
from experiments.store.store import Store
from quantizers.capabilities import resolve_options
from quantizers.schema import Backend, Status, Technique

PATIENCE_SECONDS = 120.0
FAULTS = str(Path(__file__).parent / "faults")
"""On a process's PYTHONPATH this folder makes chosen trials go wrong."""
QUICKEST = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.NONE)
T = TypeVar("T")


def trials(*codes: str, measurement: Measurement = QUICKEST, backend: Backend = Backend.ONNXRUNTIME) -> Plan:
    """Real trials of the smallest model, on the backend that is quickest to start."""
    pairs = [(code, resolve_options(backend, Technique.parse(code), {})) for code in codes]
    return Plan(tuple(TrialSpec("mnist-mlp", backend, code, measurement, options) for code, options in pairs), ())


@contextmanager
def working(home: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of `home` that ends with the context, unlike the detached one that pages start."""
    process = start_worker(home, **environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start_worker(home: Path, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "experiments.jobs.worker"]
    with (home / "worker.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"QUANTSCOPE_HOME": str(home)} | environment, stdout=log, stderr=log
        )


@contextmanager
def serving(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process as far as jobs go: it looks after the worker of `home` again and again, as a page does."""
    process = start_server(home)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start_server(home: Path) -> subprocess.Popen[bytes]:
    look = "import time\nfrom experiments.jobs.worker import ensure_worker\nwhile True:\n  ensure_worker()\n  time.sleep(0.2)"
    return subprocess.Popen([sys.executable, "-c", look], cwd=ROOT, env=os.environ | {"QUANTSCOPE_HOME": str(home)})


def wait_for(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}")


def command_of(process: psutil.Process) -> list[str]:
    """Its words; none of one that has ended by now, a zombie included."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def children_of(worker: int) -> list[psutil.Process]:
    """A worker's job processes."""
    found = []
    with suppress(psutil.Error):
        found = [child for child in psutil.Process(worker).children() if "experiments.jobs.child" in command_of(child)]
    return found


def child_of(worker: subprocess.Popen[bytes]) -> psutil.Process:
    """The first of a worker's job processes, once there is one."""
    return wait_for(lambda: children_of(worker.pid), "a trial's process")[0]


def ended(store: Store, experiment_id: str) -> list[dict[str, Any]] | None:
    """An experiment's runs, once none is active."""
    runs = store.runs(experiment_id=experiment_id)
    return None if any(Status(run["status"]).active for run in runs) else runs


def wait_until_ended(store: Store, experiment_id: str) -> list[dict[str, Any]]:
    return wait_for(lambda: ended(store, experiment_id), "the end of an experiment")


def statuses(runs: Sequence[dict[str, Any]]) -> list[str]:
    return [run["status"] for run in runs]


def detached_workers(home: Path) -> list[psutil.Process]:
    """The workers of a data directory, whoever started them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "experiments.jobs.worker" in process.cmdline() and process.environ().get("QUANTSCOPE_HOME") == str(home):
                found.append(process)
    return found


def kill_workers(home: Path) -> None:
    """Ends the detached workers that `ensure_worker` started for a test's directory."""
    for process in detached_workers(home):
        with suppress(psutil.Error):
            process.kill()
            process.wait()
