"""Trials on a real Dask cluster of several hosts, on good days and bad ones."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from workers import QUICKEST, command_of, kill_workers, statuses, trials, wait_for, wait_until_ended, working

from benchmarks.dask_cluster import Cluster, dask_cluster
from benchmarks.postgres_server import binaries, postgres_server
from experiments.jobs.worker import ensure_worker
from experiments.spec import LatencyProtocol, Plan
from experiments.store.database import open_database
from experiments.store.store import Store
from models.entry import PREFIX
from quantizers.errors import ClusterUnavailable

pytestmark = pytest.mark.adapter


@pytest.fixture(autouse=True)
def nobody_left_behind(home: Path) -> Iterator[None]:
    yield
    kill_workers(home)


@pytest.fixture
def cluster(tmp_path: Path, home: Path) -> Iterator[Cluster]:
    """A scheduler without workers; `home` comes first, so that what is started here shares it."""
    with dask_cluster(tmp_path) as started:
        yield started


def children(cluster: Cluster) -> list[psutil.Process]:
    """The trials' processes on all hosts, each a child of its Dask worker."""
    running = [psutil.Process(worker.pid) for worker in cluster.workers if worker.poll() is None]
    found = []
    for worker in running:
        with suppress(psutil.Error):
            found += [child for child in worker.children() if "experiments.jobs.child" in command_of(child)]
    return found


def trouble(home: Path, words: str = "") -> ClusterUnavailable | None:
    """What a person is told who waits for runs, if it has these words."""
    try:
        ensure_worker(home)
    except ClusterUnavailable as error:
        return error if words in error.message else None
    return None


def test_trials_overlap_on_all_hosts_and_latency_is_measured_on_one(store: Store, home: Path, cluster: Cluster) -> None:
    for host in ("127.0.0.1", "127.0.0.2"):
        cluster.add_worker(host)
    timed = trials("float32", measurement=replace(QUICKEST, latency=LatencyProtocol.QUICK))
    with working(home, QUANTSCOPE_SCHEDULER=cluster.address):
        experiment_id = store.submit(Plan((*timed.trials, *trials("static_wi8_ai8").trials), ()))
        wait_for(lambda: len({child.ppid() for child in children(cluster)}) == 2, "a trial on each host")
        first, second = wait_until_ended(store, experiment_id)
        assert statuses([first, second]) == ["done", "done"], (first["error"], second["error"])
        assert first["latency"]["p50_ms"] > 0
        assert store.file(first["run_id"], "samples").stat().st_size > 0
        assert store.run(second["run_id"])["layers"]
        again = store.submit(trials("dynamic_wi8"))
        (run,) = store.runs(experiment_id=again)
        # A process that has just finished its trial may still be on its way out.
        own = wait_for(lambda: [one for one in children(cluster) if run["run_id"] in command_of(one)], "a trial to cancel")
        store.cancel(experiment_id=again)
        assert statuses(wait_until_ended(store, again)) == ["cancelled"]
        assert not own[0].is_running()


def test_a_measurement_is_alone_on_a_host_that_takes_three_trials_at_once(store: Store, home: Path, cluster: Cluster) -> None:
    cluster.add_worker("127.0.0.1", threads=3)
    timed = trials("float32", measurement=replace(QUICKEST, latency=LatencyProtocol.QUICK))
    others = trials("static_wi8_ai8", "dynamic_wi8", "float16")
    at_once, beside_a_measurement = 0, set()
    with working(home, QUANTSCOPE_SCHEDULER=cluster.address):
        experiments = [store.submit(timed), store.submit(others)]
        while any(store.active(one) for one in experiments):
            commands = [command for child in children(cluster) if (command := command_of(child))]
            at_once = max(at_once, len(commands))
            if any("latency" in command for command in commands):
                beside_a_measurement.add(len(commands) - 1)
            time.sleep(0.05)
        assert {status for one in experiments for status in statuses(store.runs(experiment_id=one))} == {"done"}
    assert at_once >= 2
    assert beside_a_measurement == {0}


def test_a_trial_is_done_once_more_elsewhere_when_its_host_is_lost_and_then_left_to_a_person(
    store: Store, home: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTSCOPE_SCHEDULER", cluster.address)
    for host in ("127.0.0.1", "127.0.0.2"):
        cluster.add_worker(host)
    with working(home):
        experiment_id = store.submit(trials("float32"))
        for expected in ("running", "interrupted"):
            (child,) = wait_for(lambda: children(cluster), "the trial")
            psutil.Process(child.ppid()).send_signal(signal.SIGKILL)
            wait_for(lambda child=child: not child.is_running(), "the orphan's end")
            wait_for(lambda: children(cluster) or not store.active(experiment_id), "what comes next")
            assert statuses(store.runs(experiment_id=experiment_id)) == [expected]
        error = wait_for(lambda: trouble(home, "No Dask worker"), "word that no host is left")
        assert "quantscope-host=1" in error.hint
        cluster.add_worker("127.0.0.3")
        assert store.resume(experiment_id) == 1
        assert statuses(wait_until_ended(store, experiment_id)) == ["done"]
        assert trouble(home) is None


def test_a_measurement_whose_host_is_lost_is_made_anew_elsewhere_and_nothing_else(
    store: Store, home: Path, cluster: Cluster
) -> None:
    for host in ("127.0.0.1", "127.0.0.2"):
        cluster.add_worker(host)

    def measuring() -> psutil.Process | None:
        return next((child for child in children(cluster) if "latency" in command_of(child)), None)

    with working(home, QUANTSCOPE_SCHEDULER=cluster.address):
        experiment_id = store.submit(trials("float32", measurement=replace(QUICKEST, latency=LatencyProtocol.QUICK)))
        first = wait_for(measuring, "the measurement")
        (quantized,) = store.runs(experiment_id=experiment_id)
        lost = first.ppid()
        psutil.Process(lost).send_signal(signal.SIGKILL)
        second = wait_for(lambda: one if (one := measuring()) and one.pid != first.pid else None, "a measurement elsewhere")
        assert second.ppid() != lost
        wait_for(lambda: not first.is_running(), "the orphan's end")
        (run,) = wait_until_ended(store, experiment_id)
    assert run["status"] == "done", run["error"]
    assert run["latency"]["p50_ms"] > 0
    assert run["provenance"]["seconds"].items() >= quantized["provenance"]["seconds"].items()


def test_without_its_scheduler_a_trial_waits_in_the_queue_and_says_why(
    store: Store, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    monkeypatch.setenv("QUANTSCOPE_SCHEDULER", f"tcp://127.0.0.1:{port}")
    experiment_id = store.submit(trials("float32"))
    with working(home):
        error = wait_for(lambda: trouble(home, f"127.0.0.1:{port}"), "word that the scheduler does not answer")
        assert error.hint
        assert statuses(store.runs(experiment_id=experiment_id)) == ["queued"]
        with dask_cluster(tmp_path, port) as cluster:
            cluster.add_worker("127.0.0.1")
            (child,) = wait_for(lambda: children(cluster), "the trial")
            assert trouble(home) is None
            cluster.scheduler.kill()
            wait_for(lambda: trouble(home, "does not answer"), "word that the scheduler is gone")
            wait_for(lambda: not child.is_running(), "the trial's end")
            assert statuses(store.runs(experiment_id=experiment_id)) == ["queued"]


def test_two_workers_of_one_host_are_refused(
    store: Store, home: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTSCOPE_SCHEDULER", cluster.address)
    for _ in range(2):
        cluster.add_worker("127.0.0.1")
    experiment_id = store.submit(trials("float32"))
    with working(home):
        error = wait_for(lambda: trouble(home, "Several"), "a refusal")
        assert "127.0.0.1" in error.message
        assert statuses(store.runs(experiment_id=experiment_id)) == ["queued"]


@pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed (Debian: apt-get install postgresql)")
def test_a_host_with_a_disk_of_its_own_works_through_postgresql_and_a_url(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"QUANTSCOPE_HOME": str(tmp_path / "away"), "PYTHONPROFILEIMPORTTIME": "1"}
    own = trials("dynamic_wi8").trials[0]
    with postgres_server() as url, dask_cluster(tmp_path) as cluster:
        cluster.add_worker("127.0.0.1", environment=away)
        monkeypatch.setenv("QUANTSCOPE_SCHEDULER", cluster.address)
        monkeypatch.setenv("QUANTSCOPE_DATABASE_URL", url)
        monkeypatch.setenv("QUANTSCOPE_ARTEFACTS_URL", f"file://{tmp_path}/artefacts")
        store = Store(home)
        plan = Plan((*trials("float32").trials, replace(own, model=f"{PREFIX}model")), ())
        with working(home):
            experiment_id = store.submit(plan)
            wait_for(lambda: trouble(home, "another store"), "word that the host has another store")
            cluster.workers[0].kill()
            cluster.add_worker("127.0.0.1", environment=away)
            done, refused = wait_until_ended(store, experiment_id)
        assert (done["status"], refused["status"]) == ("done", "failed"), done["error"]
        assert "does not have the files" in refused["error"]["message"]
        assert store.file(done["run_id"], "artefact").stat().st_size > 0
        assert any("import time:" in line for line in store.log_tail(done["run_id"]))
        assert not list((tmp_path / "away" / "work").iterdir())
        wait_for(lambda: not list((tmp_path / "away" / "shared").glob("*")), "the end of what the trials shared")
        open_database(home).dispose()  # a connection that is left to the garbage collector warns
