"""The store: a run goes queued → running → one end, once; what is done has everything; nothing is lost on the way."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from experiments.spec import Impossible, Plan, TrialSpec
from experiments.store.artefacts import ArtefactStore
from experiments.store.store import Finished, Store
from experiments.store.tables import metadata
from quantizers.errors import UnknownName, Unsupported
from quantizers.schema import Backend


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    artefact, details = tmp_path / "model.tflite", tmp_path / "details.npz"
    artefact.write_bytes(b"flatbuffer")
    np.savez(details, edges=np.arange(3.0))
    return Finished({"size": {"bytes": 10}}, [{"name": "dense"}], {"artefact": artefact, "details": details})


def test_a_finished_run_has_its_result_its_layers_and_its_files(store: Store, two_trials: Plan, finished: Finished) -> None:
    store.submit(two_trials)
    run_id = store.claim(pid=1)
    assert run_id is not None
    store.keep(run_id, finished)
    run = store.run(run_id)
    assert (run["status"], run["size"], run["layers"]) == ("done", {"bytes": 10}, [{"name": "dense"}])
    assert store.file(run_id, "artefact").read_bytes() == b"flatbuffer"
    assert store.file(run_id, "artefact") == Path(run["artefact"]["path"])
    json.dumps(run, allow_nan=False)


def test_deleted_runs_come_back(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    ids = [run["run_id"] for run in store.runs(experiment_id=experiment_id)]
    store.delete(ids[:1])
    assert [run["run_id"] for run in store.runs(experiment_id=experiment_id)] == ids[1:]
    store.restore(ids[:1])
    assert [run["run_id"] for run in store.runs(experiment_id=experiment_id)] == ids


def test_impossible_techniques_are_kept_with_their_reason(store: Store, two_trials: Plan) -> None:
    reason = Unsupported("It has no kernels.")
    experiment_id = store.submit(Plan(two_trials.trials, (Impossible(Backend.TFLITE, "bfloat16", reason),)))
    last = store.runs(experiment_id=experiment_id)[-1]
    assert (last["technique"], last["status"]) == ("bfloat16", "unavailable")
    assert (last["latency"], last["latency_why_not"]) == (None, "the run is unavailable")
    assert last["error"]["message"] == "It has no kernels."


def test_an_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(UnknownName, match="no run “nothing”"):
        store.run("nothing")


def test_a_spec_survives_the_store(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    stored = [store.spec(run["run_id"]) for run in store.runs(experiment_id=experiment_id)]
    assert stored == list(two_trials.trials)
    assert [one.digest for one in stored] == [one.digest for one in two_trials.trials]
    assert TrialSpec.from_dict(stored[0].to_dict()) == stored[0]


def test_migrations_build_exactly_the_declared_tables(store: Store) -> None:
    engine = create_engine(f"sqlite:///{store.home / 'quantscope.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_equal_bytes_are_kept_once_and_a_lost_file_is_named(tmp_path: Path) -> None:
    artefacts = ArtefactStore(tmp_path / "kept")
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"same")
    key = artefacts.put(tmp_path / "a.bin")
    assert artefacts.put(tmp_path / "b.bin") == key
    assert len(list((tmp_path / "kept").rglob("*.bin"))) == 1
    artefacts.path(key).unlink()
    with pytest.raises(UnknownName, match="no longer in the store"):
        artefacts.path(key)


def test_two_processes_may_write_at_once(store: Store, two_trials: Plan) -> None:
    other = sqlite3.connect(store.home / "quantscope.db", timeout=10)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    experiment_id = store.submit(two_trials)
    assert other.execute("SELECT count(*) FROM run WHERE experiment_id = ?", (experiment_id,)).fetchone() == (2,)
    other.close()
