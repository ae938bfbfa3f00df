"""Made-up runs put into a real store, in every state a run can be in."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made_runs import make_run
from streamlit.testing.v1 import AppTest

from experiments.spec import Measurement, Plan, TrialSpec
from experiments.store.store import Finished, Store
from quantizers.capabilities import resolve_options
from quantizers.errors import BackendCrashed
from quantizers.schema import Backend, Status, Technique

ROOT = Path(__file__).parents[2]
MEASUREMENT = Measurement("fashion-mnist", calibration_samples=200, eval_samples=10_000)
PAIRS = ((Backend.PYTORCH, "static_wi8_ai8"), (Backend.TFLITE, "static_wi8_ai8"), (Backend.TFLITE, "dynamic_wi8"))
DESCRIBED_ELSEWHERE = {"schema", "run_id", "experiment_id", "status", "model", "backend", "technique", "options", "artefact"}
DESCRIBED_ELSEWHERE |= {"keep_float", "measurement", "stage", "progress", "error", "created", "started", "finished", "layers"}


def submit(store: Store, pairs: Sequence[tuple[Backend, str]] = PAIRS, model: str = "fashion-cnn") -> tuple[str, list[str]]:
    """Queues trials; returns the experiment's id and the runs' ids in the order of `pairs`."""
    trials = [TrialSpec(model, b, code, MEASUREMENT, resolve_options(b, Technique.parse(code), {})) for b, code in pairs]
    experiment_id = store.submit(Plan(tuple(trials), ()))
    return experiment_id, [run["run_id"] for run in store.runs(experiment_id=experiment_id)]


def finish_next(store: Store) -> str:
    """Takes the next queued run, as a worker would, and finishes it."""
    run_id = start_next(store)
    spec = store.spec(run_id)
    run, arrays = make_run(run_id, spec.backend.value, spec.technique, spec.model)
    result = {name: value for name, value in run.items() if name not in DESCRIBED_ELSEWHERE}
    with tempfile.TemporaryDirectory() as folder:
        details, artefact = Path(folder) / "details.npz", Path(folder) / "model.tflite"
        np.savez_compressed(details, **arrays)
        artefact.write_bytes(run_id.encode())
        store.keep(run_id, Finished(result, run["layers"], {"artefact": artefact, "details": details}))
    return run_id


def start_next(store: Store) -> str:
    run_id = store.claim(pid=1)
    assert run_id is not None
    return run_id


def crash_next(store: Store) -> str:
    """Takes the next queued run and has its process die, leaving a log."""
    run_id = start_next(store)
    log = store.log_path(run_id)
    log.parent.mkdir(exist_ok=True)
    log.write_text("loading\nIllegal instruction\n", encoding="utf-8")
    store.end(
        run_id, Status.FAILED, BackendCrashed("The backend crashed on this model.", "The run's log holds its last words.")
    )
    return run_id


def finished(store: Store, pairs: Sequence[tuple[Backend, str]] = PAIRS, model: str = "fashion-cnn") -> list[str]:
    """Queues trials and finishes them all."""
    _, ids = submit(store, pairs, model)
    return [finish_next(store) for _ in ids]


def open_page(script: str, **query: str) -> AppTest:
    """Runs the page `script` of the app as if its address, with `query`, had been opened."""
    test = AppTest.from_file(str(ROOT / "pages" / "_shell.py"), default_timeout=60)
    test.run()
    test.switch_page(f"{script}.py")
    for name, value in query.items():
        test.query_params[name] = value
    return test.run()
