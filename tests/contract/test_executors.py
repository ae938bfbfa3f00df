"""What every executor keeps to: jobs overlap, are polled once when they end, say how, and are gone soon when cancelled."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from benchmarks.dask_cluster import Cluster, dask_cluster
from experiments.jobs.dask import DaskExecutor
from experiments.jobs.executor import Executor, Exit, Job
from experiments.jobs.local import LocalExecutor
from experiments.spec import LatencyProtocol, Measurement, Plan, TrialSpec
from experiments.store.queue import Phase
from experiments.store.store import Store
from quantizers.capabilities import resolve_options
from quantizers.schema import Backend, Technique

pytestmark = pytest.mark.adapter

SLOTS = 2
PATIENCE_SECONDS = 120.0
T = TypeVar("T")

EXECUTORS = ("local", "dask")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler with two Dask workers on host addresses of their own."""
    with dask_cluster(tmp_path_factory.mktemp("cluster")) as started:
        for number in range(SLOTS):
            # Without a data directory of their own they take that of whoever asks, which every test has anew.
            started.add_worker(f"127.0.0.{number + 1}", environment={"QUANTSCOPE_HOME": ""})
        yield started


@pytest.fixture
def job_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))
    return Store(tmp_path / "home")


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest, job_store: Store) -> Iterator[Executor]:
    if request.param == "local":
        with closing(LocalExecutor(job_store, SLOTS)) as local:
            yield local
        return
    address = request.getfixturevalue("cluster").address
    with closing(DaskExecutor(job_store, address, job_store.register("cluster"))) as dask:

        def ready() -> bool:
            assert not dask.poll()
            return dask.slots == SLOTS

        wait_for(ready, "the Dask workers")
        yield dask


@pytest.fixture
def jobs(job_store: Store) -> list[Job]:
    """Two real trials of the smallest model, claimed by a worker."""
    measurement = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.NONE)
    pairs = [(code, resolve_options(Backend.ONNXRUNTIME, Technique.parse(code), {})) for code in ("float32", "static_wi8_ai8")]
    plan = Plan(tuple(TrialSpec("mnist-mlp", Backend.ONNXRUNTIME, code, measurement, options) for code, options in pairs), ())
    job_store.submit(plan)
    worker = job_store.register("test")
    return [Job(Phase.QUANTIZE, (job_store.claim(1, worker) or "",), worker, threads=1) for _ in plan.trials]


def wait_for(look: Callable[[], T | None], what: str, patience: float = PATIENCE_SECONDS) -> T:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {patience:.0f} s in vain for {what}")


def process_of(job: Job) -> psutil.Process | None:
    """The process of a job, wherever on this machine it runs."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[1:] == job.command[1:]:
                return process
    return None


def test_jobs_overlap_and_each_is_polled_once_when_it_ended(job_store: Store, executor: Executor, jobs: list[Job]) -> None:
    assert (executor.slots, executor.trouble) == (SLOTS, None)
    for job in jobs:
        executor.submit(job)

    def both_at_work() -> bool:
        assert not executor.poll()
        return all(job_store.run(job.run_ids[0])["progress"] > 0 for job in jobs)

    wait_for(both_at_work, "both at work at once")
    assert not any(executor.waits(job) for job in jobs)
    exits: list[Exit] = []
    while len(exits) < len(jobs):
        exits += wait_for(executor.poll, "an end")
    assert sorted(exits, key=lambda one: jobs.index(one.job)) == [Exit(job, 0) for job in jobs]
    assert executor.poll() == []
    assert [job_store.run(job.run_ids[0])["status"] for job in jobs] == ["done", "done"]


def test_a_cancelled_job_is_gone_within_three_seconds(job_store: Store, executor: Executor, jobs: list[Job]) -> None:
    executor.submit(jobs[0])
    wait_for(lambda: process_of(jobs[0]), "its process")
    executor.cancel(jobs[0])
    (exit_,) = wait_for(executor.poll, "its end", patience=3.0)
    assert exit_.job == jobs[0]
    assert exit_.code != 0
    assert process_of(jobs[0]) is None
    assert job_store.run(jobs[0].run_ids[0])["status"] == "running"


def test_a_job_that_is_killed_says_by_which_signal(executor: Executor, jobs: list[Job]) -> None:
    executor.submit(jobs[0])
    wait_for(lambda: process_of(jobs[0]), "its process").kill()
    assert wait_for(executor.poll, "its end") == [Exit(jobs[0], -9)]


def test_closing_ends_every_job(executor: Executor, jobs: list[Job]) -> None:
    for job in jobs:
        executor.submit(job)
        wait_for(lambda job=job: process_of(job), "its process")
    executor.close()
    assert [process_of(job) for job in jobs] == [None, None]
