"""What every store does, whatever its engine: a run is claimed once, ends once, and loses nothing on the way."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from experiments.spec import Impossible, LatencyProtocol, Measurement, Plan, TrialSpec
from experiments.store.database import open_database
from experiments.store.store import Finished, Store
from experiments.store.tables import metadata
from quantizers.errors import BackendCrashed, InputError, UnknownName, Unsupported
from quantizers.schema import Backend, Status

QUICKEST = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.NONE)


def trials(*codes: str) -> Plan:
    return Plan(tuple(TrialSpec("mnist-mlp", Backend.TFLITE, code, QUICKEST) for code in codes), ())


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    artefact, details = tmp_path / "model.tflite", tmp_path / "details.npz"
    artefact.write_bytes(b"flatbuffer")
    details.write_bytes(b"arrays")
    result = {"size": {"bytes": 10, "ratio": 4.0}, "provenance": {"seconds": {"quantize": 1.0}}}
    return Finished(result, [{"name": "dense"}], {"artefact": artefact, "details": details})


def claimed(store: Store) -> str:
    run_id = store.claim(pid=1)
    assert run_id is not None
    return run_id


def ids_of(store: Store, experiment_id: str) -> list[str]:
    return [run["run_id"] for run in store.runs(experiment_id=experiment_id)]


def statuses(store: Store, experiment_id: str) -> list[str]:
    return [run["status"] for run in store.runs(experiment_id=experiment_id)]


def test_runs_are_claimed_in_the_order_asked_for(store: Store) -> None:
    first = store.submit(trials("float32", "dynamic_wi8"))
    second = store.submit(trials("float16"))
    wanted = ids_of(store, first) + ids_of(store, second)
    assert [store.claim(pid=1) for _ in range(4)] == [*wanted, None]


def test_many_claim_at_once_and_each_run_is_claimed_once(store: Store) -> None:
    experiment_id = store.submit(trials(*["float32"] * 40))

    def claim_all(worker: int) -> list[str]:
        own, mine = Store(store.home), []
        while run_id := own.claim(pid=worker):
            mine.append(run_id)
        return mine

    with ThreadPoolExecutor(6) as workers:
        shares = list(workers.map(claim_all, range(6)))
    assert sorted(run_id for share in shares for run_id in share) == sorted(ids_of(store, experiment_id))


def test_progress_is_kept(store: Store) -> None:
    store.submit(trials("float32"))
    run_id = claimed(store)
    store.report(run_id, 1.7, "Quantizing" * 50)
    run = store.run(run_id)
    assert (run["status"], run["progress"], run["stage"]) == ("running", 1.0, "Quantizing" * 50)


def test_a_finished_run_has_its_result_its_layers_and_its_files(store: Store, finished: Finished) -> None:
    store.submit(trials("float32"))
    run_id = claimed(store)
    store.keep(run_id, finished)
    run = store.run(run_id)
    assert (run["status"], run["size"], run["layers"]) == ("done", {"bytes": 10, "ratio": 4.0}, [{"name": "dense"}])
    assert store.file(run_id, "artefact").read_bytes() == b"flatbuffer"
    assert store.file(run_id, "artefact") == Path(run["artefact"]["path"])
    json.dumps(run, allow_nan=False)


def test_a_run_that_waits_for_latency_is_done_with_it(store: Store, finished: Finished, tmp_path: Path) -> None:
    store.submit(trials("float32"))
    run_id = claimed(store)
    store.keep(run_id, finished, awaits_latency=True)
    assert store.claim(pid=1) is None
    assert store.claim_latency(pid=1) == [run_id]
    (tmp_path / "samples.npz").write_bytes(b"samples")
    measured = {"latency": {"p50_ms": 0.5, "speedup": 2.0}}
    store.keep_latency(run_id, lambda result: {**result, **measured}, {"samples": tmp_path / "samples.npz"})
    run = store.run(run_id)
    assert (run["status"], run["latency"]["p50_ms"], run["size"]["bytes"]) == ("done", 0.5, 10)
    assert store.file(run_id, "samples").read_bytes() == b"samples"
    (row,) = store.summaries().rows
    assert row["latency"] == {"p50_ms": 0.5, "speedup": 2.0}


def test_an_end_is_final(store: Store, finished: Finished) -> None:
    store.submit(trials("float32", "float16"))
    done, failed = claimed(store), claimed(store)
    store.keep(done, finished)
    store.end(done, Status.FAILED, BackendCrashed("It crashed."))
    store.end(failed, Status.FAILED, BackendCrashed("It crashed."))
    store.keep(failed, finished)
    assert (store.run(done)["status"], store.run(done)["error"]) == ("done", None)
    assert (store.run(failed)["status"], store.run(failed)["error"]["message"]) == ("failed", "It crashed.")


def test_cancelling_ends_what_is_queued_and_flags_what_runs(store: Store) -> None:
    experiment_id = store.submit(trials("float32", "float16"))
    run_id = claimed(store)
    store.cancel(experiment_id=experiment_id)
    assert statuses(store, experiment_id) == ["running", "cancelled"]
    assert store.cancel_requests() == {run_id}


def test_what_a_dead_worker_did_is_done_again_and_then_left_to_a_person(store: Store, finished: Finished) -> None:
    experiment_id = store.submit(trials("float32", "float16"))
    worker = store.register("here")
    first, second = store.claim(1, worker), store.claim(1, worker)
    assert first is not None
    assert second is not None
    store.keep(first, finished, owner=worker)
    successor = store.register("here")
    assert not store.beat(worker)
    assert store.claim(2, successor) == second
    store.keep(second, finished, owner=worker)
    assert statuses(store, experiment_id) == ["done", "running"]
    store.register("here")
    assert statuses(store, experiment_id) == ["done", "interrupted"]
    assert store.resume(experiment_id) == 1
    assert store.claim(pid=3) == second


def test_deleted_runs_come_back(store: Store) -> None:
    experiment_id = store.submit(trials("float32", "float16"))
    ids = ids_of(store, experiment_id)
    store.delete(ids[:1])
    assert ids_of(store, experiment_id) == ids[1:]
    with pytest.raises(UnknownName):
        store.run(ids[0])
    assert store.restore(ids[:1]) == 1
    assert ids_of(store, experiment_id) == ids


def test_impossible_techniques_are_kept_with_their_reason(store: Store) -> None:
    reason = Unsupported("It has no kernels.")
    plan = Plan(trials("float32").trials, (Impossible(Backend.TFLITE, "bfloat16", reason),))
    last = store.runs(experiment_id=store.submit(plan))[-1]
    assert (last["technique"], last["status"]) == ("bfloat16", "unavailable")
    assert (last["latency"], last["latency_why_not"]) == (None, "the run is unavailable")
    assert last["error"]["message"] == "It has no kernels."


def test_a_spec_survives_the_store_however_long(store: Store) -> None:
    codes = {f"a_rather_long_name_of_a_layer_{number}": 8 for number in range(200)}
    plan = trials("float32", f"mixed:{json.dumps(codes)}")
    stored = [store.spec(run_id) for run_id in ids_of(store, store.submit(plan))]
    assert stored == list(plan.trials)
    assert [one.digest for one in stored] == [one.digest for one in plan.trials]


def test_runs_are_found_by_what_they_are(store: Store, finished: Finished) -> None:
    experiment_id = store.submit(trials("float32", "float16"))
    run_id = claimed(store)
    store.keep(run_id, finished)
    for wanted in ({"status": Status.DONE}, {"ids": [run_id]}, {"experiment_id": experiment_id, "status": Status.DONE}):
        assert [run["run_id"] for run in store.runs(**wanted)] == [run_id]
    assert len(store.runs(model="mnist-mlp", backend="tflite")) == 2
    assert store.runs(model="mnist-cnn") == []
    with pytest.raises(UnknownName, match="no run “nothing”"):
        store.run("nothing")


def test_tags_are_added_removed_and_kept_in_order(store: Store) -> None:
    one, other = ids_of(store, store.submit(trials("float32", "float16")))
    store.tag([one, other], add=["paper", "  best   so far "])
    store.tag([one], add=["paper", "again"], remove=["best so far", "never given"])
    assert store.run(one)["tags"] == ["again", "paper"]
    assert store.run(other)["tags"] == ["best so far", "paper"]
    assert store.facets()["tag"] == {"paper": 2, "again": 1, "best so far": 1}


def test_notes_are_replaced(store: Store) -> None:
    (run_id,) = ids_of(store, store.submit(trials("float32")))
    assert store.run(run_id)["notes"] == ""
    for text in ("Größer als erwartet.\nWhy?", ""):
        store.note(run_id, text)
        assert store.run(run_id)["notes"] == text


@pytest.mark.parametrize("tags", [[""], ["  "], ["a,b"], ["x" * 51], ["bell\a"]])
def test_an_impossible_tag_is_refused_and_nothing_changes(store: Store, tags: Sequence[str]) -> None:
    (run_id,) = ids_of(store, store.submit(trials("float32")))
    with pytest.raises(InputError, match="cannot be a tag"):
        store.tag([run_id], add=["good", *tags])
    assert store.run(run_id)["tags"] == []


def test_labels_need_a_run(store: Store) -> None:
    (run_id,) = ids_of(store, store.submit(trials("float32")))
    with pytest.raises(UnknownName, match="no run “nothing”"):
        store.tag([run_id, "nothing"], add=["good"])
    with pytest.raises(UnknownName, match="no run “nothing”"):
        store.note("nothing", "Hm.")
    with pytest.raises(InputError, match="10,001 characters"):
        store.note(run_id, "x" * 10_001)
    assert store.run(run_id)["tags"] == []


def test_migrations_build_exactly_the_declared_tables(store: Store) -> None:
    engine = create_engine(open_database(store.home).url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
