"""The queue: a run goes queued → running → one end, once, and belongs to one worker at a time."""

from pathlib import Path

import numpy as np
import pytest

from experiments.spec import Plan
from experiments.store.store import Finished, Store
from quantizers.errors import BackendCrashed
from quantizers.schema import Status


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    artefact, details = tmp_path / "model.tflite", tmp_path / "details.npz"
    artefact.write_bytes(b"flatbuffer")
    np.savez(details, edges=np.arange(3.0))
    return Finished({"size": {"bytes": 10}}, [{"name": "dense"}], {"artefact": artefact, "details": details})


def statuses(store: Store, experiment_id: str) -> list[str]:
    return [run["status"] for run in store.runs(experiment_id=experiment_id)]


def test_runs_are_claimed_once_in_the_order_asked_for(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    claimed = [store.claim(pid=1), store.claim(pid=1), store.claim(pid=1)]
    assert claimed == [run["run_id"] for run in store.runs(experiment_id=experiment_id)] + [None]
    assert statuses(store, experiment_id) == ["running", "running"]


def test_an_end_is_final(store: Store, two_trials: Plan, finished: Finished) -> None:
    store.submit(two_trials)
    run_id = store.claim(pid=1)
    assert run_id is not None
    store.finish(run_id, finished)
    store.end(run_id, Status.FAILED, BackendCrashed("It crashed."))
    assert store.run(run_id)["status"] == "done"
    assert store.run(run_id)["error"] is None


def test_cancelling_ends_what_is_queued_and_flags_what_runs(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    run_id = store.claim(pid=1)
    assert run_id is not None
    store.cancel(experiment_id=experiment_id)
    assert statuses(store, experiment_id) == ["running", "cancelled"]
    assert store.cancel_requested(run_id)


def test_orphans_are_interrupted_and_resume_queues_only_them(store: Store, two_trials: Plan, finished: Finished) -> None:
    experiment_id = store.submit(two_trials)
    first, second = store.claim(pid=1), store.claim(pid=1)
    assert first is not None
    store.finish(first, finished)
    store.end_orphans()
    assert statuses(store, experiment_id) == ["done", "interrupted"]
    assert store.resume(experiment_id) == 1
    assert store.claim(pid=2) == second
