"""Time left: learnt from runs that finished, none known before the first of them."""

import time
from pathlib import Path
from typing import Any

import pytest
from workers import trials

from experiments.jobs.eta import eta, forecast
from experiments.spec import LatencyProtocol, Measurement, Plan
from experiments.store.store import Finished, Store

pytestmark = pytest.mark.usefixtures("database_url")

QUICK = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.QUICK)


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    artefact = tmp_path / "model.onnx"
    artefact.write_bytes(b"bytes")
    return Finished({"provenance": {"seconds": {"load": 1.0, "quantize": 9.0}}}, [], {"artefact": artefact})


def finish(store: Store, plan: Plan, finished: Finished, latency: float | None = None) -> None:
    """Runs that took 10 s each, and `latency` s more each to be timed."""
    store.submit(plan)
    while run_id := store.claim(1):
        store.keep(run_id, finished, awaits_latency=latency is not None)

    def complete(result: Any) -> dict[str, Any]:
        return {**result, "provenance": {"seconds": result["provenance"]["seconds"] | {"latency": latency}}}

    if latency is not None:
        for run_id in store.claim_latency(1):
            store.keep_latency(run_id, complete, {})


def the_run(store: Store, experiment_id: str) -> dict[str, Any]:
    (run,) = store.runs(experiment_id=experiment_id)
    return run


def test_nothing_is_known_before_the_first_run(store: Store) -> None:
    experiment_id = store.submit(trials("float32"))
    assert eta(store, the_run(store, experiment_id)) is None
    assert forecast(store, experiment_id).seconds is None


def test_a_queued_run_takes_what_its_like_took(store: Store, finished: Finished) -> None:
    finish(store, trials("static_wi8_ai8"), finished)
    assert eta(store, the_run(store, store.submit(trials("static_wi8_ai8")))) == 10.0
    assert eta(store, the_run(store, store.submit(trials("static_wi4_ai8")))) == 10.0


def test_latency_is_learnt_by_protocol(store: Store, finished: Finished) -> None:
    finish(store, trials("float32", measurement=QUICK), finished, latency=30.0)
    assert eta(store, the_run(store, store.submit(trials("float32", measurement=QUICK)))) == 40.0
    assert eta(store, the_run(store, store.submit(trials("float32")))) == 10.0


def test_trials_side_by_side_take_less_and_timing_does_not(
    store: Store, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(store, trials("float32", measurement=QUICK), finished, latency=30.0)
    experiment_id = store.submit(trials("float32", "float16", "dynamic_wi8", "static_wi8_ai8", measurement=QUICK))
    monkeypatch.setenv("QUANTSCOPE_CHILDREN", "2")
    assert forecast(store, experiment_id).seconds == 4 * 10.0 / 2 + 4 * 30.0
    monkeypatch.setenv("QUANTSCOPE_CHILDREN", "8")
    assert forecast(store, experiment_id).seconds == 10.0 + 4 * 30.0


def test_a_run_that_takes_longer_than_its_like_is_told_by_its_progress(
    store: Store, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(store, trials("float32"), finished)
    experiment_id = store.submit(trials("float32"))
    run_id = store.claim(1) or ""
    store.report(run_id, 0.5, "Quantizing")
    run = the_run(store, experiment_id)
    monkeypatch.setattr(time, "time", lambda: run["phase_started"] + 4.0)
    assert eta(store, run) == pytest.approx(6.0)
    monkeypatch.setattr(time, "time", lambda: run["phase_started"] + 20.0)
    assert eta(store, run) == pytest.approx(20.0)


def test_an_experiment_that_ended_has_nothing_left(store: Store) -> None:
    experiment_id = store.submit(trials("float32", "float16"))
    store.cancel(experiment_id=experiment_id)
    told = forecast(store, experiment_id)
    assert (told.ended, told.total, told.fraction, told.seconds) == (2, 2, 1.0, 0.0)
