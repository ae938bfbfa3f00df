"""The worker and its children, for real: trials of mnist-mlp side by side, stopped, and taken over."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from workers import (
    FAULTS,
    child_of,
    children_of,
    command_of,
    detached_workers,
    kill_workers,
    start_worker,
    statuses,
    trials,
    wait_for,
    wait_until_ended,
    working,
)

from experiments.jobs import isolation
from experiments.jobs.child import _quantize
from experiments.jobs.isolation import AUTOGROUP, NICENESS
from experiments.jobs.worker import LOG_BYTES, ensure_worker
from experiments.spec import LatencyProtocol, Measurement, Plan
from experiments.store.store import Store
from quantizers.errors import InputError

pytestmark = pytest.mark.adapter


@pytest.fixture
def worker(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with working(home, QUANTSCOPE_CHILDREN="2") as process:
        yield process


def test_trials_run_side_by_side_behind_everything_else_and_a_killed_one_costs_only_itself(
    store: Store, worker: subprocess.Popen[bytes]
) -> None:
    experiment_id = store.submit(trials("float32", "static_wi8_ai8", "dynamic_wi8"))
    first, second = wait_for(lambda: found if len(found := children_of(worker.pid)) == 2 else None, "two trials at once")
    victim = first.cmdline()[-1]
    wait_for(lambda: second.nice() == NICENESS, "a trial that steps back")
    if AUTOGROUP.exists():  # only where the kernel groups processes by session
        group = AUTOGROUP.parents[1] / str(second.pid) / AUTOGROUP.name
        wait_for(lambda: group.read_text().endswith(f"nice {NICENESS}\n"), "a session that steps back")
    first.send_signal(signal.SIGKILL)
    runs = {run["run_id"]: run for run in wait_until_ended(store, experiment_id)}
    killed = runs.pop(victim)
    assert (killed["status"], killed["error"]["code"]) == ("failed", "backend_crashed")
    assert "SIGKILL" in killed["error"]["message"]
    assert statuses(list(runs.values())) == ["done", "done"]
    assert not list((store.home / "work").iterdir())
    wait_for(lambda: not list((store.home / "shared").iterdir()), "the end of what the trials shared")


@pytest.mark.parametrize(("code", "threads"), [("qat_wi8_ai8", "1"), ("static_wi8_ai8", "7")])
def test_training_computes_on_one_thread_so_that_a_seed_gives_one_network_whatever_runs_beside_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, threads: str
) -> None:
    seen: list[str] = []

    def stop(*_: object) -> None:
        seen.extend(os.environ[name] for name in isolation.thread_limits(0))
        raise InterruptedError

    for name, value in isolation.thread_limits(7).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("experiments.trial.quantize_trial", stop)
    (run,) = store.runs(experiment_id=store.submit(trials(code)))
    with pytest.raises(InterruptedError):
        _quantize(store, "somebody", [run["run_id"]], tmp_path)
    assert set(seen) == {threads}


def test_cancelling_stops_a_running_trial_within_three_seconds(
    store: Store, two_trials: Plan, worker: subprocess.Popen[bytes]
) -> None:
    experiment_id = store.submit(two_trials)
    child = child_of(worker)
    asked = time.monotonic()
    store.cancel(experiment_id=experiment_id)
    runs = wait_until_ended(store, experiment_id)
    assert time.monotonic() - asked < 3
    assert set(statuses(runs)) == {"cancelled"}
    assert not child.is_running()


@pytest.mark.parametrize("how", ["cancel", "limit"])
def test_a_trial_that_will_not_listen_is_ended_all_the_same(store: Store, home: Path, how: str) -> None:
    faults = {"QUANTSCOPE_TEST_FAULTS": json.dumps({"float32": "will_not_listen"}), "PYTHONPATH": FAULTS}
    with working(home, **faults, QUANTSCOPE_TRIAL_LIMIT="3600" if how == "cancel" else "8") as worker:
        experiment_id = store.submit(trials("float32"))
        child = child_of(worker)
        wait_for(lambda: "deaf" in "".join(store.log_tail(store.runs()[0]["run_id"], 10)), "the trial's deafness")
        asked = time.monotonic()
        if how == "cancel":
            store.cancel(experiment_id=experiment_id)
        (run,) = wait_until_ended(store, experiment_id)
    assert how == "limit" or time.monotonic() - asked < 3
    assert run["status"] == ("cancelled" if how == "cancel" else "failed")
    assert how == "cancel" or run["error"]["code"] == "timeout"
    assert not child.is_running()


def test_cancelling_a_measurement_ends_all_its_processes_within_three_seconds(store: Store, home: Path) -> None:
    timed = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.QUICK)

    def timing() -> list[psutil.Process]:
        measuring = [child for child in children_of(worker.pid) if "latency" in command_of(child)]
        with suppress(psutil.NoSuchProcess):  # asked again when it ends in this moment
            return [session for child in measuring for session in child.children(recursive=True)]
        return []

    with working(home) as worker:
        experiment_id = store.submit(trials("float32", measurement=timed))
        processes = wait_for(timing, "the measurement")
        asked = time.monotonic()
        store.cancel(experiment_id=experiment_id)
        (run,) = wait_until_ended(store, experiment_id)
        assert time.monotonic() - asked < 3
        assert run["status"] == "cancelled"
        assert not psutil.wait_procs(processes, timeout=3)[1]


def test_a_detached_worker_leads_a_session_of_its_own(store: Store, home: Path) -> None:
    """So that what is sent to the server's group, Ctrl-C in its terminal say, does not reach it."""
    ensure_worker(home)
    (worker,) = wait_for(lambda: detached_workers(home), "the worker")
    assert os.getsid(worker.pid) == worker.pid
    kill_workers(home)


def test_a_child_dies_with_its_worker_and_the_next_worker_does_its_trial_again(store: Store) -> None:
    experiment_id = store.submit(trials("float32", "static_wi8_ai8"))
    worker = start_worker(store.home)
    child = child_of(worker)
    worker.kill()
    worker.wait()
    wait_for(lambda: not child.is_running(), "the orphan's end")
    ensure_worker(store.home)
    assert statuses(wait_until_ended(store, experiment_id)) == ["done", "done"]
    kill_workers(store.home)


def test_a_data_directory_has_one_worker(store: Store, worker: subprocess.Popen[bytes]) -> None:
    wait_for(store.beats, "the worker")
    assert start_worker(store.home).wait(timeout=60) == 0
    assert worker.poll() is None


def test_a_trial_that_cannot_load_its_data_says_so(
    store: Store, two_trials: Plan, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    lost = json.loads(json.dumps(two_trials.trials[0].to_dict()))
    lost["measurement"]["data"] = str(tmp_path / "gone.npz")
    trial = type(two_trials.trials[0]).from_dict(lost)
    (run,) = wait_until_ended(store, store.submit(Plan((trial,), ())))
    assert (run["status"], run["error"]["code"]) == ("failed", "bad_data")
    assert run["error"]["hint"]
    assert any("Traceback" in line for line in store.log_tail(run["run_id"], 100))


def test_latency_is_measured_alone_and_lost_alone(store: Store) -> None:
    """Killed while measuring, an experiment keeps everything but its latency, and measures only that afterwards."""
    timed = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.QUICK)
    experiment_id = store.submit(trials("static_wi8_ai8", "dynamic_wi8", measurement=timed))
    later = store.submit(trials("float16"))

    def measuring() -> psutil.Process | None:
        return next((child for child in children_of(worker.pid) if "latency" in command_of(child)), None)

    with working(store.home, QUANTSCOPE_CHILDREN="2") as worker:
        child = wait_for(measuring, "the measurement")
        assert [one.pid for one in children_of(worker.pid)] == [child.pid]
        assert child.nice() < NICENESS
        assert statuses(store.runs(experiment_id=later)) == ["queued"]
        quantized = [run["provenance"]["seconds"] for run in store.runs(experiment_id=experiment_id)]
    with working(store.home, QUANTSCOPE_CHILDREN="2"):
        runs = wait_until_ended(store, experiment_id)
        assert statuses(runs) == ["done", "done"]
        assert statuses(wait_until_ended(store, later)) == ["done"]
    for run, seconds in zip(runs, quantized, strict=True):
        assert run["latency"]["p50_ms"] > 0
        assert {name: run["provenance"]["seconds"][name] for name in seconds} == seconds


def test_a_worker_without_work_removes_what_nobody_needs(store: Store, worker: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"of no run")
    kept = store.artefacts.path(store.artefacts.put(tmp_path / "model.bin"))
    os.utime(kept, (0, 0))
    wait_for(lambda: not kept.exists(), "its end")
    assert not store.artefacts.holds(kept.name)


def test_a_long_log_of_workers_gives_way_to_a_new_one(store: Store) -> None:
    log = store.home / "worker.log"
    log.write_bytes(b"x" * (LOG_BYTES + 1))
    ensure_worker(store.home)
    kill_workers(store.home)
    assert log.stat().st_size < LOG_BYTES
    assert (store.home / "worker.log.1").stat().st_size == LOG_BYTES + 1


@pytest.mark.parametrize("text", ["many", "0", "nan"])
def test_a_setting_that_makes_no_sense_is_refused(store: Store, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_CHILDREN", text)
    with pytest.raises(InputError, match="QUANTSCOPE_CHILDREN"):
        ensure_worker(store.home)
