"""Planning: everything that cannot be met is refused before anything runs, with what, why and what to do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.spec import ExperimentSpec, Measurement, TrialSpec, plan
from quantizers.errors import BadData, InputError, UnknownName, Unsupported
from quantizers.schema import Backend

SPEC = ExperimentSpec("mnist-mlp", ((Backend.TFLITE, "dynamic_wi8"),), Measurement("mnist-5k"))


def with_data(data: str, **conditions: int) -> ExperimentSpec:
    return replace(SPEC, measurement=Measurement(data, **conditions))


def test_defaults_are_written_into_every_trial() -> None:
    (trial,) = plan(SPEC).trials
    assert (trial.measurement.calibration_samples, trial.measurement.eval_samples) == (200, 1000)
    assert (trial.measurement.seed, trial.measurement.threads, trial.measurement.latency) == (0, 1, "quick")


def test_options_go_where_a_technique_has_them() -> None:
    techniques = ((Backend.PYTORCH, "static_wi8_ai8"), (Backend.TFLITE, "float16"))
    static, half = plan(replace(SPEC, techniques=techniques, options={"per_channel": "false"})).trials
    assert static.options["per_channel"] is False
    assert half.options == {}


def test_the_impossible_stays_beside_the_possible_with_its_reason() -> None:
    techniques = ((Backend.TFLITE, "float32"), (Backend.TFLITE, "bfloat16"), (Backend.PYTORCH, "dynamic_wi4"))
    planned = plan(replace(SPEC, techniques=techniques))
    assert [trial.technique for trial in planned.trials] == ["float32"]
    assert [one.technique for one in planned.impossible] == ["bfloat16", "dynamic_wi4"]
    assert "no bfloat16 kernels" in planned.impossible[0].error.message


def test_asking_twice_runs_once() -> None:
    assert len(plan(replace(SPEC, techniques=SPEC.techniques * 2)).trials) == 1


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (replace(SPEC, model="mnist-nlp"), UnknownName, "no model called “mnist-nlp”"),
        (replace(SPEC, techniques=((Backend.TFLITE, "static_wi9_ai8"),)), UnknownName, "static_wi9_ai8"),
        (replace(SPEC, techniques=((Backend.TFLITE, "rubbish"),)), UnknownName, "not a technique"),
        (replace(SPEC, techniques=((Backend.TFLITE, "bfloat16"),)), Unsupported, "no bfloat16 kernels"),
        (replace(SPEC, techniques=()), InputError, "No technique"),
        (replace(SPEC, options={"obserber": "minmax"}), UnknownName, "obserber"),
        (replace(SPEC, keep_float=("conv99",)), UnknownName, "conv99"),
        (
            replace(SPEC, techniques=((Backend.TFLITE, "qat_wi8_ai8"),), keep_float=("dense1",)),
            Unsupported,
            "whole integer model",
        ),
        (with_data("cifar"), UnknownName, "cifar"),
        (with_data("photos"), BadData, "28 × 28 × 1"),
        (with_data("mnist-5k", calibration_samples=501), BadData, "mnist-5k has 500"),
        (with_data("mnist-5k", eval_samples=5000), BadData, "mnist-5k has 1,000"),
    ],
)
def test_what_cannot_be_met_is_refused(spec: ExperimentSpec, error: type[InputError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        plan(spec)
    assert caught.value.hint or isinstance(caught.value, Unsupported)


@pytest.mark.parametrize("count", [0, -3])
def test_no_samples_are_refused(count: int) -> None:
    with pytest.raises(BadData, match=f"{count} calibration samples"):
        Measurement("mnist-5k", calibration_samples=count)


def test_no_threads_are_refused() -> None:
    with pytest.raises(InputError, match="0 threads"):
        Measurement("mnist-5k", threads=0)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.full((8, 28, 28, 1), np.nan, np.float32), "NaN"),
        (np.zeros((8, 32, 32, 1), np.float32), "28 × 28 × 1"),
        (np.zeros((0, 28, 28, 1), np.float32), "0 samples"),
    ],
)
def test_data_of_ones_own_is_looked_at_first(tmp_path: Path, x: np.ndarray, words: str) -> None:
    np.savez(tmp_path / "own.npz", x=x)
    with pytest.raises(BadData, match=words) as caught:
        plan(with_data(str(tmp_path / "own.npz")))
    assert caught.value.hint


@pytest.mark.parametrize(("labels", "lack"), [(False, "no labels"), (True, "no train split")])
def test_training_takes_labels_and_a_train_split(tmp_path: Path, labels: bool, lack: str) -> None:
    arrays = {"x": np.zeros((20, 28, 28, 1), np.uint8)} | ({"y": np.arange(20) % 10} if labels else {})
    np.savez(tmp_path / "own.npz", **arrays)
    techniques = ((Backend.PYTORCH, "float32"), (Backend.PYTORCH, "qat_wi8_ai8"))
    planned = plan(replace(SPEC, techniques=techniques, measurement=Measurement(str(tmp_path / "own.npz"))))
    assert [trial.technique for trial in planned.trials] == ["float32"]
    assert lack in planned.impossible[0].error.message


def test_the_float_baseline_of_a_trial_differs_in_nothing_else() -> None:
    (trial,) = plan(SPEC).trials
    baseline = trial.float_baseline()
    assert baseline.technique == "float32"
    assert (baseline.model, baseline.backend, baseline.measurement) == (trial.model, trial.backend, trial.measurement)
    assert baseline.digest != trial.digest


def test_a_spec_of_a_newer_version_is_refused() -> None:
    (trial,) = plan(SPEC).trials
    with pytest.raises(InputError, match="schema 2"):
        TrialSpec.from_dict(trial.to_dict() | {"schema": 2})
