"""What is removed, and what never is: nothing a run can still name, whoever works at the same moment."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.spec import LatencyProtocol, Measurement, Plan, TrialSpec
from experiments.store.artefacts import PART
from experiments.store.garbage import Collected
from experiments.store.store import Finished, Store
from quantizers.errors import UnknownName
from quantizers.schema import Backend, Status

QUICKEST = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.NONE)
NOTHING = Collected(runs=0, files=0, bytes=0, folders=0)
DAY = 86_400.0


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Callable[[bytes], str]:
    """Stores a finished run that keeps these bytes and returns its id."""

    def make(content: bytes) -> str:
        store.submit(Plan((TrialSpec("mnist-mlp", Backend.TFLITE, "float32", QUICKEST),), ()))
        run_id = store.claim(pid=1)
        assert run_id is not None
        source = tmp_path / f"{run_id}.bin"
        source.write_bytes(content)
        store.keep(run_id, Finished({}, [{"name": "dense"}], {"artefact": source}))
        return run_id

    return make


def age(path: Path, seconds: float) -> None:
    for one in (path, *path.rglob("*")):
        os.utime(one, (time.time() - seconds, time.time() - seconds))


def test_deleted_runs_are_purged_with_all_they_had_when_their_time_is_over(store: Store, run: Callable[[bytes], str]) -> None:
    deleted, kept = run(b"deleted"), run(b"kept")
    store.tag([deleted, kept], add=["paper"])
    log = store.log_path(deleted)
    log.parent.mkdir()
    log.write_text("words")
    store.delete([deleted])
    age(store.home, 2 * DAY)
    assert store.collect_garbage() == NOTHING
    assert store.restore([deleted]) == 1
    store.delete([deleted])
    collected = store.collect_garbage(deleted_kept_seconds=0)
    assert collected == Collected(runs=1, files=1, bytes=len(b"deleted"), folders=0)
    assert not log.exists()
    assert store.restore([deleted]) == 0
    with pytest.raises(UnknownName):
        store.spec(deleted)
    assert store.file(kept, "artefact").read_bytes() == b"kept"
    assert store.facets()["tag"] == {"paper": 1}


def test_bytes_that_another_run_has_too_stay(store: Store, run: Callable[[bytes], str]) -> None:
    deleted, kept = run(b"the same"), run(b"the same")
    store.delete([deleted])
    age(store.home, 2 * DAY)
    assert store.collect_garbage(deleted_kept_seconds=0) == Collected(runs=1, files=0, bytes=0, folders=0)
    assert store.file(kept, "artefact").read_bytes() == b"the same"


def test_a_running_run_is_not_purged_before_its_worker_let_go(store: Store) -> None:
    store.submit(Plan((TrialSpec("mnist-mlp", Backend.TFLITE, "float32", QUICKEST),), ()))
    run_id = store.claim(pid=1)
    assert run_id is not None
    store.delete([run_id])
    assert store.collect_garbage(deleted_kept_seconds=-1).runs == 0
    store.end(run_id, Status.CANCELLED)
    assert store.collect_garbage(deleted_kept_seconds=-1).runs == 1


def test_files_of_no_run_go_when_they_are_old(store: Store, tmp_path: Path) -> None:
    (tmp_path / "lost.bin").write_bytes(b"lost")
    key = store.artefacts.put(tmp_path / "lost.bin")
    half = store.home / "artefacts" / f"tmpabc{PART}"
    half.write_bytes(b"half")
    assert store.collect_garbage() == NOTHING
    age(store.home / "artefacts", 2 * DAY)
    assert store.collect_garbage() == Collected(runs=0, files=2, bytes=8, folders=0)
    assert not store.artefacts.holds(key)
    assert not half.exists()


def test_shared_work_of_dead_experiments_goes(store: Store, run: Callable[[bytes], str]) -> None:
    dead = store.run(run(b"model"))["experiment_id"]
    waiting = store.submit(Plan((TrialSpec("mnist-mlp", Backend.TFLITE, "float32", QUICKEST),), ()))
    shared = store.home / "shared"
    for name in (dead, waiting, "of-nobody"):
        (shared / name / "float").mkdir(parents=True)
    assert store.collect_garbage() == NOTHING
    age(shared, 2 * DAY)
    assert store.collect_garbage().folders == 2
    assert [path.name for path in shared.iterdir()] == [waiting]


def test_bytes_collected_before_a_run_names_them_are_put_again(
    store: Store, run: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.artefacts.put

    def put_and_collect(source: Path) -> str:
        monkeypatch.setattr(store.artefacts, "put", put)
        key = put(source)
        assert store.collect_garbage(grace_seconds=-1).files == 1
        return key

    monkeypatch.setattr(store.artefacts, "put", put_and_collect)
    assert store.file(run(b"model"), "artefact").read_bytes() == b"model"


def test_a_collector_without_grace_never_takes_what_a_worker_keeps(store: Store, run: Callable[[bytes], str]) -> None:
    """The worst case, over and over: bytes that were garbage a moment ago are kept again while the collector looks."""
    rounds = {"kept": 0, "collected": 0}

    def work() -> None:
        while rounds["kept"] < 30 or rounds["collected"] < 5:
            run_id = run(b"the same bytes every time")
            assert store.file(run_id, "artefact").read_bytes() == b"the same bytes every time"
            store.delete([run_id])
            rounds["kept"] += 1

    with ThreadPoolExecutor(1) as threads:
        worker = threads.submit(work)
        while not worker.done():
            store.collect_garbage(deleted_kept_seconds=-1, grace_seconds=-1)
            rounds["collected"] += 1
        worker.result()
