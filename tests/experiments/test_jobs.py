"""The worker and its children, for real: trials of mnist-mlp, and every way for one to die."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from experiments.jobs.worker import ROOT, ensure_worker
from experiments.spec import Plan
from experiments.store.store import Store
from quantizers.schema import Status

pytestmark = pytest.mark.adapter

PATIENCE_SECONDS = 120.0


@pytest.fixture
def worker(store: Store) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that the test can kill, instead of the detached one that pages start."""
    process = subprocess.Popen([sys.executable, "-m", "experiments.jobs.worker"], cwd=ROOT)
    yield process
    process.kill()
    process.wait()


T = TypeVar("T")


def wait_for(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}")


def child_of(worker: subprocess.Popen[bytes]) -> psutil.Process:
    """The worker's trial process, once it has begun its work."""

    def look() -> psutil.Process | None:
        found = [one for one in psutil.Process(worker.pid).children() if "experiments.jobs.child" in one.cmdline()]
        return found[0] if found else None

    return wait_for(look, "a trial's process")


def ended(store: Store, experiment_id: str) -> list[dict[str, object]] | None:
    runs = store.runs(experiment_id=experiment_id)
    return None if any(Status(str(run["status"])).active for run in runs) else runs


def test_trials_run_one_after_the_other_and_a_killed_one_fails_clearly(
    store: Store, two_trials: Plan, worker: subprocess.Popen[bytes]
) -> None:
    experiment_id = store.submit(two_trials)
    child_of(worker).send_signal(signal.SIGKILL)
    first, second = wait_for(lambda: ended(store, experiment_id), "both ends")
    assert first["status"] == "failed"
    assert first["error"]["code"] == "backend_crashed"
    assert "SIGKILL" in first["error"]["message"]
    assert second["status"] == "done", second["error"]


def test_cancelling_stops_a_running_trial_within_three_seconds(
    store: Store, two_trials: Plan, worker: subprocess.Popen[bytes]
) -> None:
    experiment_id = store.submit(two_trials)
    child = child_of(worker)
    asked = time.monotonic()
    store.cancel(experiment_id=experiment_id)
    wait_for(lambda: ended(store, experiment_id), "the cancelled ends")
    assert time.monotonic() - asked < 3
    assert {run["status"] for run in store.runs(experiment_id=experiment_id)} == {"cancelled"}
    assert not child.is_running()


def test_a_child_dies_with_its_worker_and_its_run_can_be_resumed(
    store: Store, two_trials: Plan, worker: subprocess.Popen[bytes]
) -> None:
    experiment_id = store.submit(two_trials)
    child = child_of(worker)
    worker.kill()
    worker.wait()
    wait_for(lambda: not child.is_running(), "the orphan's end")
    ensure_worker(store.home)
    runs = wait_for(lambda: ended(store, experiment_id), "the other trial's end")
    assert [run["status"] for run in runs] == ["interrupted", "done"]
    assert store.resume(experiment_id) == 1
    ensure_worker(store.home)
    runs = wait_for(lambda: ended(store, experiment_id), "the resumed end")
    assert [run["status"] for run in runs] == ["done", "done"]
    kill_workers(store.home)


def test_a_data_directory_has_one_worker(store: Store, worker: subprocess.Popen[bytes]) -> None:
    wait_for((store.home / "worker.lock").exists, "the worker's lock")
    second = subprocess.run([sys.executable, "-m", "experiments.jobs.worker"], cwd=ROOT, timeout=30, check=False)
    assert second.returncode == 0
    assert worker.poll() is None


def test_a_trial_that_cannot_load_its_data_says_so(
    store: Store, two_trials: Plan, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    lost = json.loads(json.dumps(two_trials.trials[0].to_dict()))
    lost["measurement"]["data"] = str(tmp_path / "gone.npz")
    trial = type(two_trials.trials[0]).from_dict(lost)
    experiment_id = store.submit(Plan((trial,), ()))
    (run,) = wait_for(lambda: ended(store, experiment_id), "the failure")
    assert (run["status"], run["error"]["code"]) == ("failed", "bad_data")
    assert run["error"]["hint"]
    assert "Traceback" in store.log_path(str(run["run_id"])).read_text()


def kill_workers(home: Path) -> None:
    """Ends the detached workers that `ensure_worker` started for a test's directory."""
    for process in psutil.process_iter(["cmdline"]):
        if "experiments.jobs.worker" in (process.info["cmdline"] or []):
            try:
                mine = process.environ().get("QUANTSCOPE_HOME") == str(home)
            except psutil.Error:
                continue
            if mine:
                os.kill(process.pid, signal.SIGKILL)
