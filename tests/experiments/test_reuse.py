"""Identical trials: found again while nothing behind their names has changed, and only then."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import reuse
from experiments.reuse import ROOT, finished_by_digest, reusable
from experiments.spec import LatencyProtocol, Measurement, Plan, TrialSpec
from experiments.store.store import Finished, Store
from models import catalogue, datasets
from quantizers import registry
from quantizers.schema import Backend


@pytest.fixture
def trial() -> TrialSpec:
    measurement = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.NONE)
    return TrialSpec("mnist-mlp", Backend.TFLITE, "float16", measurement)


def provenance(trial: TrialSpec) -> dict[str, Any]:
    model = catalogue.load(trial.model)
    return {
        "versions": dict(registry.get(trial.backend).versions()),
        "cpu": reuse.machine.describe().cpu,
        "model_sha256": model.digest,
        "dataset": {"sha256": datasets.load(trial.measurement.data, model.info).info.digest},
    }


def finish(store: Store, trial: TrialSpec, told: dict[str, Any], folder: Path, latency: dict[str, Any] | None = None) -> str:
    """A run of `trial` that says `told` of its provenance."""
    store.submit(Plan((trial,), ()))
    run_id = store.claim(pid=1)
    assert run_id is not None
    artefact = folder / "model.tflite"
    artefact.write_bytes(b"a model")
    store.keep(run_id, Finished({"provenance": told, "latency": latency}, [], {"artefact": artefact}))
    return run_id


def test_the_newest_of_the_same_is_found(store: Store, trial: TrialSpec, tmp_path: Path) -> None:
    first = finish(store, trial, provenance(trial), tmp_path)
    assert reusable(store, [trial])[trial.digest]["run_id"] == first
    second = finish(store, trial, provenance(trial), tmp_path)
    assert finished_by_digest(store, [trial.digest, "unheard of"]) == {trial.digest: [second, first]}
    assert reusable(store, [trial])[trial.digest]["run_id"] == second


def test_a_deleted_run_is_not_found(store: Store, trial: TrialSpec, tmp_path: Path) -> None:
    store.delete([finish(store, trial, provenance(trial), tmp_path)])
    assert reusable(store, [trial]) == {}


def test_another_spec_is_another_trial(store: Store, trial: TrialSpec, tmp_path: Path) -> None:
    finish(store, trial, provenance(trial), tmp_path)
    assert reusable(store, [replace(trial, measurement=replace(trial.measurement, seed=1))]) == {}


def test_an_unfinished_run_is_not_found(store: Store, trial: TrialSpec) -> None:
    store.submit(Plan((trial,), ()))
    assert reusable(store, [trial]) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"versions": {"tensorflow": "1.0"}},
        {"cpu": "another one"},
        {"model_sha256": "0" * 64},
        {"dataset": {"sha256": "0" * 64}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_measured_otherwise_is_not_offered(
    store: Store, trial: TrialSpec, tmp_path: Path, change: dict[str, Any]
) -> None:
    same = finish(store, trial, provenance(trial), tmp_path)
    finish(store, trial, provenance(trial) | change, tmp_path)
    assert reusable(store, [trial])[trial.digest]["run_id"] == same


def test_a_latency_by_older_rules_is_not_offered(store: Store, trial: TrialSpec, tmp_path: Path) -> None:
    same = finish(store, trial, provenance(trial), tmp_path, {"p50_ms": 1.0, "repeated_blocks": 0})
    finish(store, trial, provenance(trial), tmp_path, {"p50_ms": 1.0})
    assert reusable(store, [trial])[trial.digest]["run_id"] == same


def test_data_of_ones_own_that_changed_is_noticed(store: Store, trial: TrialSpec, tmp_path: Path) -> None:
    own = tmp_path / "own.npz"
    x = np.random.default_rng(0).integers(0, 255, (90, 28, 28, 1)).astype(np.uint8)
    np.savez(own, x=x)
    trial = replace(trial, measurement=replace(trial.measurement, data=str(own)))
    finish(store, trial, provenance(trial), tmp_path)
    assert trial.digest in reusable(store, [trial])
    np.savez(own, x=255 - x)
    assert reusable(store, [trial]) == {}
    own.unlink()
    assert reusable(store, [trial]) == {}


def test_the_command_line_reuses_only_when_asked(store: Store, trial: TrialSpec, tmp_path: Path) -> None:
    planned = replace(trial, options={})
    run_id = finish(store, planned, provenance(trial), tmp_path)
    command = [sys.executable, "-m", "experiments", "run", "--model", "mnist-mlp", "--backend", "tflite", "--json"]
    command += ["--technique", "float16", "--technique", "bfloat16", "--reuse", "--no-latency"]
    command += ["--calibration-samples", "20", "--eval-samples", "50"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["experiment_id"] is None
    assert [(run["run_id"], run["status"]) for run in document["runs"]] == [(run_id, "done"), (None, "unavailable")]
    assert document["runs"][1]["error"]["code"] == "unsupported"
    assert len(store.runs()) == 1
