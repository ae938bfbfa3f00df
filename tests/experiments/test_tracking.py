"""The export to MLflow, to a real tracking store on SQLite, read back through MLflow's own client."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from experiments.library import EXAMPLES, Library
from experiments.spec import Plan
from experiments.store.store import SECTIONS, Finished, Store
from experiments.tracking import RUN_ID, export_to_mlflow
from quantizers.errors import InputError, MissingExtra, UnknownName

pytestmark = [
    # MLflow's tables use what SQLAlchemy 2.1 has deprecated.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]
mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed (requirements-dev.txt)")
EXAMPLE = EXAMPLES / "fashion-cnn--tflite--static_wi8_ai8"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store with its tables and nothing in them, which takes MLflow seconds to make."""
    path = tmp_path_factory.mktemp("tracking") / "empty.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracking store of a test's own; MLflow keeps files in the folder it is called from."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty, tmp_path / "tracking.db")
    return f"sqlite:///{tmp_path / 'tracking.db'}"


@pytest.fixture
def run_id(store: Store, two_trials: Plan) -> str:
    """A run with the result and the files of a bundled example; the second trial is left queued."""
    store.submit(two_trials)
    claimed = store.claim(pid=1)
    assert claimed is not None
    example = json.loads((EXAMPLE / "run.json").read_text(encoding="utf-8"))
    files = {"artefact": EXAMPLE / example["artefact"]["path"], "details": EXAMPLE / "details.npz"}
    result = {name: example.get(name) for name in SECTIONS} | {"latency": None, "latency_why_not": "not measured, by choice"}
    store.keep(claimed, Finished(result, example["layers"], files))
    store.tag([claimed], add=["paper", "best so far"])
    store.note(claimed, "Smaller than I thought.")
    return claimed


def test_parameters_metrics_tags_and_files_arrive(store: Store, run_id: str, uri: str) -> None:
    (tracked,) = export_to_mlflow(Library(store), [run_id], uri)
    assert tracked.added
    client = mlflow.MlflowClient(tracking_uri=uri)
    exported, run = client.get_run(tracked.mlflow_run_id), store.run(run_id)
    assert exported.info.status == "FINISHED"
    assert exported.info.end_time == int(run["finished"] * 1000)
    assert {name: exported.data.params[name] for name in ("model", "backend", "measurement.seed")} == {
        "model": "mnist-mlp",
        "backend": "tflite",
        "measurement.seed": "0",
    }
    metrics = exported.data.metrics
    assert metrics["size.bytes"] == run["size"]["bytes"]
    assert metrics["quality.top1"] == run["quality"]["top1"]
    assert [metrics["quality.drop_pp_ci95.low"], metrics["quality.drop_pp_ci95.high"]] == run["quality"]["drop_pp_ci95"]
    assert not any(name.startswith("latency") for name in metrics)
    assert exported.data.tags[RUN_ID] == run_id
    assert exported.data.tags["mlflow.note.content"] == "Smaller than I thought."
    assert {name for name in exported.data.tags if "tag" in name} == {"quantscope.tag.paper", "quantscope.tag.best so far"}
    names = {entry.path for entry in client.list_artifacts(tracked.mlflow_run_id)}
    assert names == {"run.json", "spec.json", "layers.csv", "details.npz", "model.tflite"}
    fetched = client.download_artifacts(tracked.mlflow_run_id, "model.tflite")
    assert Path(fetched).read_bytes() == store.file(run_id, "artefact").read_bytes()


def test_exporting_twice_does_not_double_and_brings_labels_up_to_date(store: Store, run_id: str, uri: str) -> None:
    (first,) = export_to_mlflow(Library(store), [run_id], uri)
    store.tag([run_id], add=["new"], remove=["paper"])
    store.note(run_id, "")
    (second,) = export_to_mlflow(Library(store), [run_id], uri)
    assert (second.mlflow_run_id, second.added) == (first.mlflow_run_id, False)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (exported,) = client.search_runs([client.get_experiment_by_name("quantscope").experiment_id])
    assert {name for name in exported.data.tags if "tag" in name} == {"quantscope.tag.new", "quantscope.tag.best so far"}
    assert "mlflow.note.content" not in exported.data.tags
    assert len(client.get_metric_history(exported.info.run_id, "size.bytes")) == 1


def test_an_export_that_broke_off_is_done_again(store: Store, run_id: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Library, "export", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export_to_mlflow(Library(store), [run_id], uri)
    (tracked,) = export_to_mlflow(Library(store), [run_id], uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (exported,) = client.search_runs([client.get_experiment_by_name("quantscope").experiment_id])
    assert (exported.info.run_id, exported.info.status, tracked.added) == (tracked.mlflow_run_id, "FINISHED", True)


def test_a_bundled_example_can_be_exported(store: Store, uri: str) -> None:
    (tracked,) = export_to_mlflow(Library(store), [f"example-{EXAMPLE.name}"], uri, experiment="examples")
    metrics = mlflow.MlflowClient(tracking_uri=uri).get_run(tracked.mlflow_run_id).data.metrics
    assert metrics["latency.p50_ms"] == json.loads((EXAMPLE / "run.json").read_text(encoding="utf-8"))["latency"]["p50_ms"]


def test_only_finished_runs_of_ours_are_exported(store: Store, run_id: str, uri: str) -> None:
    queued = next(run["run_id"] for run in store.runs() if run["run_id"] != run_id)
    with pytest.raises(InputError, match="is queued"):
        export_to_mlflow(Library(store), [run_id, queued], uri)
    with pytest.raises(UnknownName):
        export_to_mlflow(Library(store), ["nothing"], uri)
    assert mlflow.MlflowClient(tracking_uri=uri).get_experiment_by_name("quantscope") is None


def test_without_mlflow_the_error_says_what_to_install(
    store: Store, run_id: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtra) as refused:
        export_to_mlflow(Library(store), [run_id], uri)
    assert 'pip install "mlflow-skinny==3.17.2"' in refused.value.hint
