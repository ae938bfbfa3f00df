"""The queue: a run goes queued → running → one end, once, and belongs to one worker at a time."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.spec import LatencyProtocol, Plan
from experiments.store.queue import Phase
from experiments.store.store import Finished, Store
from quantizers.errors import BackendCrashed
from quantizers.schema import Status

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    artefact, details = tmp_path / "model.tflite", tmp_path / "details.npz"
    artefact.write_bytes(b"flatbuffer")
    np.savez(details, edges=np.arange(3.0))
    return Finished({"size": {"bytes": 10}}, [{"name": "dense"}], {"artefact": artefact, "details": details})


@pytest.fixture
def timed(two_trials: Plan) -> Plan:
    """Two trials whose latency is asked for."""
    trials = two_trials.trials
    return Plan(tuple(replace(one, measurement=replace(one.measurement, latency=LatencyProtocol.QUICK)) for one in trials), ())


def claim(store: Store, owner: str | None = None) -> str:
    run_id = store.claim(1, owner)
    assert run_id is not None
    return run_id


def statuses(store: Store, experiment_id: str) -> list[str]:
    return [run["status"] for run in store.runs(experiment_id=experiment_id)]


def test_runs_are_claimed_once_in_the_order_asked_for(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    claimed = [store.claim(pid=1), store.claim(pid=1), store.claim(pid=1)]
    assert claimed == [run["run_id"] for run in store.runs(experiment_id=experiment_id)] + [None]
    assert statuses(store, experiment_id) == ["running", "running"]


def test_higher_priorities_go_first(store: Store, two_trials: Plan) -> None:
    ordinary, urgent = store.submit(two_trials), store.submit(two_trials, priority=1)
    assert [store.experiment_of(claim(store)) for _ in range(4)] == [urgent, urgent, ordinary, ordinary]


def test_an_experiment_is_unfinished_as_long_as_something_of_it_can_be_resumed(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    store.end(claim(store), Status.INTERRUPTED)
    store.end(claim(store), Status.FAILED, BackendCrashed("It crashed."))
    assert not store.active(experiment_id)
    assert store.unfinished(experiment_id)
    store.resume(experiment_id)
    store.cancel(experiment_id=experiment_id)
    assert not store.unfinished(experiment_id)


def test_an_end_is_final(store: Store, two_trials: Plan, finished: Finished) -> None:
    store.submit(two_trials)
    run_id = claim(store)
    store.keep(run_id, finished)
    store.end(run_id, Status.FAILED, BackendCrashed("It crashed."))
    assert store.run(run_id)["status"] == "done"
    assert store.run(run_id)["error"] is None


def test_cancelling_ends_what_is_queued_and_flags_what_runs(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    run_id = claim(store)
    store.cancel(experiment_id=experiment_id)
    assert statuses(store, experiment_id) == ["running", "cancelled"]
    assert store.cancel_requests() == {run_id}


def test_latency_waits_for_the_other_trials_and_is_then_claimed_for_all(store: Store, timed: Plan, finished: Finished) -> None:
    experiment_id = store.submit(timed)
    first, second = claim(store), claim(store)
    store.keep(first, finished, awaits_latency=True)
    assert store.next_phase() is Phase.LATENCY
    assert store.claim_latency(pid=1) == []
    store.keep(second, finished, awaits_latency=True)
    assert statuses(store, experiment_id) == ["queued", "queued"]
    assert store.claim(pid=1) is None
    assert store.claim_latency(pid=1) == [first, second]
    assert store.next_phase() is None


def test_latency_goes_after_its_own_experiment_and_before_the_next(store: Store, timed: Plan, finished: Finished) -> None:
    store.submit(timed)
    store.keep(claim(store), finished, awaits_latency=True)
    assert store.next_phase() is Phase.QUANTIZE
    store.keep(claim(store), finished, awaits_latency=True)
    store.submit(timed)
    assert store.next_phase() is Phase.LATENCY


def test_a_run_whose_latency_was_interrupted_lacks_only_that(store: Store, timed: Plan, finished: Finished) -> None:
    experiment_id = store.submit(timed)
    ids = [claim(store), claim(store)]
    for run_id in ids:
        store.keep(run_id, finished, awaits_latency=True)
    for run_id in store.claim_latency(pid=1):
        store.end(run_id, Status.INTERRUPTED)
    assert store.run(ids[0])["size"] == {"bytes": 10}
    assert store.resume(experiment_id) == 2
    assert store.claim(pid=1) is None
    assert store.claim_latency(pid=1) == ids
    store.keep_latency(ids[0], lambda result: {**result, "latency": {"p50_ms": 1.0}}, {})
    run = store.run(ids[0])
    assert (run["status"], run["size"], run["latency"]) == ("done", {"bytes": 10}, {"p50_ms": 1.0})


def test_a_run_that_is_cancelled_before_its_latency_ends_cancelled(store: Store, timed: Plan, finished: Finished) -> None:
    store.submit(timed)
    run_id = claim(store)
    store.cancel(run_id=run_id)
    store.keep(run_id, finished, awaits_latency=True)
    run = store.run(run_id)
    assert (run["status"], run["size"], run["latency_why_not"]) == ("cancelled", {"bytes": 10}, "the run is cancelled")


def test_a_dead_workers_runs_are_queued_once_more_and_then_interrupted(
    store: Store, two_trials: Plan, finished: Finished
) -> None:
    experiment_id = store.submit(two_trials)
    worker = store.register("here")
    store.keep(claim(store, worker), finished, owner=worker)
    second = claim(store, worker)
    worker = store.register("here")
    assert statuses(store, experiment_id) == ["done", "queued"]
    assert claim(store, worker) == second
    worker = store.register("here")
    assert statuses(store, experiment_id) == ["done", "interrupted"]
    assert store.resume(experiment_id) == 1
    assert claim(store, worker) == second


def test_a_run_that_a_dead_worker_should_have_stopped_is_cancelled(store: Store, two_trials: Plan) -> None:
    store.submit(two_trials)
    run_id = claim(store, store.register("here"))
    store.cancel(run_id=run_id)
    store.register("here")
    assert store.run(run_id)["status"] == "cancelled"


def test_workers_elsewhere_keep_their_runs(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    there = store.register("there")
    claim(store, there)
    store.register("here")
    assert statuses(store, experiment_id) == ["running", "queued"]
    assert store.beat(there)
    assert store.beats()[there] == 1


def test_a_worker_that_was_taken_for_dead_changes_nothing(store: Store, two_trials: Plan, finished: Finished) -> None:
    store.submit(two_trials)
    late, now = store.register("there"), store.register("here")
    run_id = claim(store, late)
    store.dismiss(late)
    assert not store.beat(late)
    assert claim(store, now) == run_id
    store.report(run_id, 0.9, "Too late", owner=late)
    store.keep(run_id, finished, owner=late)
    store.end(run_id, Status.FAILED, owner=late)
    run = store.run(run_id)
    assert (run["status"], run["stage"], run["size"]) == ("running", "Starting", None)
    store.keep(run_id, finished, owner=now)
    assert store.run(run_id)["status"] == "done"


def test_live_data_is_shown_while_a_trial_runs(store: Store, two_trials: Plan, finished: Finished) -> None:
    store.submit(two_trials)
    run_id = claim(store)
    store.report(run_id, 0.2, "Training", {"training": {"epochs": [1]}})
    store.report(run_id, 0.3, "Training")
    run = store.run(run_id)
    assert (run["progress"], run["live"]) == (0.3, {"training": {"epochs": [1]}})
    store.keep(run_id, finished)
    assert store.run(run_id)["live"] is None


def test_the_tail_of_a_log_can_be_read_at_any_time(store: Store) -> None:
    assert store.log_tail("run") == []
    store.log_path("run").parent.mkdir()
    store.log_path("run").write_bytes(b"\xff\n" + b"\n".join(b"line %d" % number for number in range(100_000)))
    assert store.log_tail("run", 2) == ["line 99998", "line 99999"]


def test_a_clock_that_was_set_back_does_not_end_a_run_before_it_began(
    store: Store, two_trials: Plan, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.submit(two_trials)
    run_id = claim(store)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    store.keep(run_id, finished)
    run = store.run(run_id)
    assert run["finished"] == run["started"]
