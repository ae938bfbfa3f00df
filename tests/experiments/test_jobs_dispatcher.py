"""What the worker decides, step by step, with an executor whose processes do what the test says."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from workers import QUICKEST, statuses, trials

from experiments.jobs import dispatcher as module
from experiments.jobs import isolation
from experiments.jobs.dispatcher import Dispatcher, Superseded
from experiments.jobs.executor import Exit, Job
from experiments.jobs.settings import Settings
from experiments.spec import LatencyProtocol
from experiments.store.queue import Phase
from experiments.store.store import Finished, Store
from quantizers.schema import Status

pytestmark = pytest.mark.usefixtures("database_url")

TIMED = replace(QUICKEST, latency=LatencyProtocol.QUICK)
SETTINGS = Settings(children=2, memory_bytes=None, trial_seconds=100.0)


class Scripted:
    """An executor that remembers what it is asked; `end` makes a process of its end."""

    slots = 2
    trouble = None
    isolates_latency = False

    def __init__(self) -> None:
        self.running: list[Job] = []
        self.cancelled: list[Job] = []
        self._exits: list[Exit] = []

    def waits(self, job: Job) -> bool:
        return False

    def submit(self, job: Job) -> None:
        self.running.append(job)

    def end(self, job: Job, code: int | None = 0) -> None:
        self.running.remove(job)
        self._exits.append(Exit(job, code))

    def poll(self) -> Sequence[Exit]:
        exits, self._exits = self._exits, []
        return exits

    def cancel(self, job: Job) -> None:
        self.cancelled.append(job)

    def close(self) -> None:
        self.running.clear()


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose latency lock is this test's own."""
    path = tmp_path / "machine.lock"
    monkeypatch.setattr(isolation, "machine_lock_path", lambda: path)
    return path


@pytest.fixture
def executor() -> Scripted:
    return Scripted()


@pytest.fixture
def worker(store: Store, executor: Scripted) -> Dispatcher:
    return Dispatcher(store, executor, SETTINGS, store.register("here"))


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    artefact = tmp_path / "model.onnx"
    artefact.write_bytes(b"bytes")
    return Finished({"provenance": {"seconds": {}}}, [], {"artefact": artefact})


def quantize_all(store: Store, executor: Scripted, worker: Dispatcher, finished: Finished) -> None:
    """Lets every trial that waits to be quantized come to its latency."""
    while jobs := [job for job in executor.running if job.phase is Phase.QUANTIZE]:
        for job in jobs:
            store.keep(job.run_ids[0], finished, awaits_latency=True, owner=job.owner)
            executor.end(job)
        worker.step()


def of(store: Store, experiment_id: str) -> list[str]:
    return statuses(store.runs(experiment_id=experiment_id))


def test_no_more_trials_run_than_there_are_slots(store: Store, executor: Scripted, worker: Dispatcher) -> None:
    experiment_id = store.submit(trials("float32", "float16", "dynamic_wi8"))
    assert worker.step()
    assert of(store, experiment_id) == ["running", "running", "queued"]


def test_latency_is_measured_jointly_with_nothing_beside_it(
    store: Store, executor: Scripted, worker: Dispatcher, finished: Finished
) -> None:
    experiment_id = store.submit(trials("float32", "float16", "dynamic_wi8", measurement=TIMED))
    worker.step()
    quantize_all(store, executor, worker, finished)
    store.submit(trials("float32"))
    worker.step()
    (job,) = executor.running
    assert job.phase is Phase.LATENCY
    assert list(job.run_ids) == [run["run_id"] for run in store.runs(experiment_id=experiment_id)]


def test_latency_waits_until_no_other_trial_runs(
    store: Store, executor: Scripted, worker: Dispatcher, finished: Finished
) -> None:
    store.submit(trials("float32", measurement=TIMED))
    later = store.submit(trials("float32", "float16"))
    worker.step()
    first, other = executor.running
    store.keep(first.run_ids[0], finished, awaits_latency=True, owner=first.owner)
    executor.end(first)
    worker.step()
    assert executor.running == [other]
    assert of(store, later) == ["running", "queued"]
    store.keep(other.run_ids[0], finished, owner=other.owner)
    executor.end(other)
    worker.step()
    assert [job.phase for job in executor.running] == [Phase.LATENCY]


def test_latency_waits_until_the_process_that_quantized_is_gone(
    store: Store, executor: Scripted, worker: Dispatcher, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else, where other hosts are free, the end of that process would be taken for the end of the measurement."""
    monkeypatch.setattr(executor, "isolates_latency", True)
    experiment_id = store.submit(trials("float32", measurement=TIMED))
    worker.step()
    (first,) = executor.running
    store.keep(first.run_ids[0], finished, awaits_latency=True, owner=first.owner)
    assert worker.step()
    assert executor.running == [first]
    executor.end(first)
    worker.step()
    assert [job.phase for job in executor.running] == [Phase.LATENCY]
    assert of(store, experiment_id) == ["running"]


def test_latency_waits_for_a_measurement_of_another_data_directory(
    store: Store, executor: Scripted, worker: Dispatcher, finished: Finished, machine: Path
) -> None:
    store.submit(trials("float32", measurement=TIMED))
    worker.step()
    with FileLock(machine, is_singleton=False):
        quantize_all(store, executor, worker, finished)
        assert worker.step()
        assert executor.running == []
    worker.step()
    (job,) = executor.running
    executor.end(job, -6)
    worker.step()
    with FileLock(machine, timeout=0, is_singleton=False):
        assert of(store, store.experiment_of(job.run_ids[0])) == ["failed"]


def test_one_of_several_that_are_timed_together_can_be_cancelled(
    store: Store, executor: Scripted, worker: Dispatcher, finished: Finished
) -> None:
    experiment_id = store.submit(trials("float32", "float16", measurement=TIMED))
    worker.step()
    quantize_all(store, executor, worker, finished)
    (job,) = executor.running
    store.cancel(run_id=job.run_ids[0])
    worker.step()
    assert (of(store, experiment_id), executor.cancelled) == (["cancelled", "running"], [])
    store.cancel(run_id=job.run_ids[1])
    worker.step()
    assert executor.cancelled == [job]
    executor.end(job, -15)
    worker.step()
    assert of(store, experiment_id) == ["cancelled", "cancelled"]


def test_a_trial_that_takes_too_long_is_stopped(
    store: Store, executor: Scripted, worker: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.submit(trials("float32"))
    worker.step()
    (job,) = executor.running
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + SETTINGS.trial_seconds + 1.0)
    worker.step()
    assert executor.cancelled == [job]
    executor.end(job, -15)
    worker.step()
    run = store.run(job.run_ids[0])
    assert (run["status"], run["error"]["code"]) == ("failed", "timeout")


def test_a_trial_whose_machine_is_lost_is_done_again_once(store: Store, executor: Scripted, worker: Dispatcher) -> None:
    experiment_id = store.submit(trials("float32"))
    for expected in ("running", "interrupted"):
        worker.step()
        executor.end(executor.running[0], None)
        worker.step()
        assert of(store, experiment_id) == [expected]


def test_a_trial_that_crashed_is_not_done_again(store: Store, executor: Scripted, worker: Dispatcher) -> None:
    experiment_id = store.submit(trials("float32"))
    worker.step()
    executor.end(executor.running[0], -11)
    worker.step()
    assert (of(store, experiment_id), executor.running) == (["failed"], [])


def test_a_process_that_runs_out_of_memory_in_its_backend_says_so(store: Store, executor: Scripted, worker: Dispatcher) -> None:
    store.submit(trials("float32"))
    worker.step()
    (job,) = executor.running
    store.log_path(job.run_ids[0]).parent.mkdir(exist_ok=True)
    store.log_path(job.run_ids[0]).write_text("terminate called after throwing an instance of 'std::bad_alloc'\n")
    executor.end(job, -6)
    worker.step()
    assert store.run(job.run_ids[0])["error"]["code"] == "out_of_memory"


def test_a_trial_that_cannot_be_started_fails(
    store: Store, executor: Scripted, worker: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_job: Job) -> None:
        raise OSError("no room for its log")

    monkeypatch.setattr(executor, "submit", refuse)
    experiment_id = store.submit(trials("float32"))
    worker.step()
    worker.step()
    (run,) = store.runs(experiment_id=experiment_id)
    assert (run["status"], run["error"]["code"]) == (Status.FAILED, "store_failed")


def test_a_worker_elsewhere_whose_beat_stands_still_is_relieved(
    store: Store, executor: Scripted, worker: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment_id = store.submit(trials("float32"))
    silent = store.register("elsewhere")
    assert store.claim(1, silent)
    began = time.monotonic()
    for seconds in (0.0, module.BEAT_SECONDS + 1.0, module.LEASE_SECONDS):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: began + seconds)
        worker.step()
        assert executor.running == []
    monkeypatch.setattr(time, "monotonic", lambda: began + 2 * module.LEASE_SECONDS)
    worker.step()
    assert len(executor.running) == 1
    assert of(store, experiment_id) == ["running"]
    with pytest.raises(Superseded):
        Dispatcher(store, Scripted(), SETTINGS, silent).step()
