"""Trials by themselves and beside others: sharing their work changes the time it takes and nothing else. All for real."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.outputs import LayerOutputs
from benchmarks.protocol import Protocol
from experiments import shared as shared_work
from experiments import timing, trial
from experiments.judgement import PLAIN, UNTRAINED, judge
from experiments.material import load_material
from experiments.shared import FIDELITY_BATCH, Baseline, quantize
from experiments.spec import ExperimentSpec, LatencyProtocol, Measurement, TrialSpec, plan
from experiments.store.store import Finished
from experiments.timing import WAITING, Waiting
from experiments.trial import awaits_latency, measure_latency, quantize_trial
from quantizers.adapter import Arm, Epoch, Report, Trained
from quantizers.schema import Backend

pytestmark = [
    pytest.mark.adapter,
    # torch.export calls what torch has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning", "ignore::UserWarning:torch"),
]

SAMPLES = 40
BRIEF = Protocol(runs=50, seconds=0.05, limit_seconds=5.0, opening_seconds=0.0)
NOTHING_NEW = {"training": None, "training_why_not": UNTRAINED, "improvement": None, "improvement_why_not": PLAIN}


def planned(backend: Backend, *techniques: str, latency: LatencyProtocol = LatencyProtocol.NONE) -> list[TrialSpec]:
    measurement = Measurement("mnist-5k", calibration_samples=32, eval_samples=SAMPLES, latency=latency)
    return list(plan(ExperimentSpec("mnist-cnn", tuple((backend, one) for one in techniques), measurement)).trials)


def silent(_fraction: float, _words: str) -> None: ...


def done(spec: TrialSpec, folder: Path, shared: Path) -> Finished:
    folder.mkdir()
    return quantize_trial(spec, folder, silent, shared, lambda _news: None)


def figures(finished: Finished) -> tuple[str, dict[str, np.ndarray]]:
    """Everything a trial found, less where and how fast; floats as JSON writes them, which is exact."""
    with np.load(finished.files["details"]) as file:
        arrays = {name: file[name] for name in file.files}
    result = {name: value for name, value in finished.result.items() if name != "provenance"}
    return json.dumps([result, finished.layers], default=str), arrays


def same(one: Finished, other: Finished) -> bool:
    (text, arrays), (other_text, other_arrays) = figures(one), figures(other)
    return (
        text == other_text
        and arrays.keys() == other_arrays.keys()
        and all(np.array_equal(arrays[name], other_arrays[name]) for name in arrays)
    )


@pytest.mark.parametrize("backend", Backend)
def test_shared_figures_are_those_of_a_trial_alone(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    float32, static, weights = planned(backend, "float32", "static_wi8_ai8", "weight_only_wi8")
    alone = [done(one, tmp_path / f"alone {one.technique}", tmp_path / f"own {one.technique}") for one in (static, weights)]
    first = done(float32, tmp_path / "float32", tmp_path / "shared")
    monkeypatch.setattr(Baseline, "_compute", lambda *_: pytest.fail("the float model was run again"))
    beside = [done(one, tmp_path / f"beside {one.technique}", tmp_path / "shared") for one in (static, weights)]
    for one, other in zip(beside, alone, strict=True):
        assert same(one, other)
        assert one.result["size"]["ratio"] > 1
    assert same(done(float32, tmp_path / "again", tmp_path / "shared"), first)


@pytest.mark.parametrize("backend", Backend)
def test_figures_are_those_of_two_models_side_by_side(backend: Backend, tmp_path: Path) -> None:
    """The same by the shortest way there is: both models in memory, nothing kept on disk in between."""
    (spec,) = planned(backend, "static_wi8_ai8")
    found = done(spec, tmp_path / "trial", tmp_path / "shared")
    material = load_material(spec)
    plain = quantize(spec.float_baseline(), material, tmp_path / "plain", tmp_path / "a", silent)
    candidate = quantize(spec, material, tmp_path / "candidate", tmp_path / "b", silent)
    x, labels = material.evaluation, material.labels
    outputs = LayerOutputs(candidate.layers())
    for start in range(0, SAMPLES, FIDELITY_BATCH):
        batch = x[start : start + FIDELITY_BATCH]
        outputs.add(plain.activations(batch), candidate.activations(batch))
    isolated = {"isolated", "isolated_why_not"}
    assert [{k: v for k, v in one.items() if k not in isolated} for one in found.layers] == [
        asdict(one) for one in outputs.reports()
    ]
    assert all(one["isolated"]["both"] for one in found.layers)
    assert found.result["quality"] == asdict(quality.compare(plain.predict(x), candidate.predict(x), labels, 10))


def test_activations_too_large_to_keep_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (spec,) = planned(Backend.TFLITE, "static_wi8_ai8")
    kept = done(spec, tmp_path / "kept", tmp_path / "shared")
    monkeypatch.setattr(shared_work, "MOST_KEPT_BYTES", 1000)
    assert same(done(spec, tmp_path / "not kept", tmp_path / "other"), kept)
    assert list((tmp_path / "shared").rglob("*.safetensors"))
    assert not list((tmp_path / "other").rglob("*.safetensors"))


def test_a_damaged_entry_costs_time_and_no_figure(tmp_path: Path) -> None:
    (spec,) = planned(Backend.TFLITE, "dynamic_wi8")
    whole = done(spec, tmp_path / "whole", tmp_path / "shared")
    for file in (tmp_path / "shared").rglob("logits.npy"):
        file.write_bytes(file.read_bytes()[:100])
    assert same(done(spec, tmp_path / "mended", tmp_path / "shared"), whole)


def test_other_samples_are_not_taken_for_these(tmp_path: Path) -> None:
    (spec,) = planned(Backend.TFLITE, "dynamic_wi8")
    done(spec, tmp_path / "one", tmp_path / "shared")
    reseeded = replace(spec, measurement=replace(spec.measurement, seed=1))
    beside = done(reseeded, tmp_path / "two", tmp_path / "shared")
    assert same(beside, done(reseeded, tmp_path / "three", tmp_path / "own"))


class Answering:
    """A model that has been trained, by the logits it gives."""

    def __init__(self, logits: np.ndarray, training: Trained | None = None) -> None:
        self.logits, self.training = logits, training

    def predict(self, batch: np.ndarray) -> np.ndarray:
        return self.logits[: len(batch)]


def test_training_is_judged_against_its_control_on_the_same_samples(tmp_path: Path) -> None:
    (spec,) = planned(Backend.TFLITE, "float32")
    material = load_material(spec)
    assert material.labels is not None
    right = np.eye(10, dtype=np.float32)[material.labels]
    wrong_five = right.copy()
    wrong_five[:5] = np.roll(right[:5], 1, axis=1)
    history = (Epoch(Arm.QAT, 1, 0.5, 0.9, 2.0), Epoch(Arm.CONTROL, 1, 0.4, 0.8, 1.0))
    candidate = Answering(right, Trained(history, Answering(wrong_five), 3.0))
    training = judge(candidate, right, right, material)["training"]
    assert [epoch["arm"] for epoch in training["epochs"]] == ["qat", "control"]
    assert training["seconds"] == 3.0
    assert training["control"]["top1"] == pytest.approx((SAMPLES - 5) / SAMPLES)
    gain = training["against_control"]
    assert gain["drop_pp"] == pytest.approx(-100 * 5 / SAMPLES)
    assert gain["mcnemar_p"] == pytest.approx(2 * 0.5**5)
    assert gain["drop_pp_ci95"][0] <= gain["drop_pp"] <= gain["drop_pp_ci95"][1]
    json.dumps(training)
    assert NOTHING_NEW.items() <= judge(Answering(right), right, right, material).items()


def test_better_rounding_is_judged_against_plain_rounding_on_the_same_samples(tmp_path: Path) -> None:
    (spec,) = planned(Backend.TFLITE, "float32")
    material = load_material(spec)
    right = np.eye(10, dtype=np.float32)[material.labels]
    candidate = Answering(right)
    candidate.plain = Answering(np.roll(right, 1, axis=1))
    improvement = judge(candidate, right, right, material)["improvement"]
    assert improvement["plain"]["top1"] == 0.0
    assert improvement["plain"]["output_sqnr_db"] == pytest.approx(10 * np.log10(1 / 2), abs=1e-6)
    assert improvement["against_plain"]["drop_pp"] == pytest.approx(-100)
    json.dumps(improvement)


def test_the_learning_curve_grows_with_every_epoch() -> None:
    heard: list[dict[str, dict[str, list[dict[str, object]]]]] = []
    curve = trial._Curve(heard.append)
    for number in (1, 2):
        curve.add(Epoch(Arm.QAT, number, 1.0 / number, 0.5, 0.1))
    assert [[epoch["epoch"] for epoch in news["training"]["epochs"]] for news in heard] == [[1], [1, 2]]


def test_training_samples_are_apart_from_the_test(tmp_path: Path) -> None:
    (spec,) = planned(Backend.TFLITE, "float32")
    material = load_material(replace(spec, technique="qat_wi8_ai8"))
    training = material.training
    assert training is not None
    assert (len(training.x), len(training.evaluation_x)) == (3500, 500)
    seen = {one.tobytes() for one in (*training.x, *training.evaluation_x)}
    assert not seen & {one.tobytes() for one in material.evaluation}
    assert load_material(spec).training is None


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(timing.PROTOCOLS, "quick", BRIEF)


def waiting(specs: list[TrialSpec], folder: Path) -> tuple[list[Waiting], list[Finished]]:
    trials = [done(spec, folder / str(index), folder / "shared") for index, spec in enumerate(specs)]
    runs = [Waiting(f"run{i}", spec, one.files["artefact"]) for i, (spec, one) in enumerate(zip(specs, trials, strict=True))]
    return runs, trials


def test_runs_are_timed_together_beside_one_baseline(tmp_path: Path, brief: None) -> None:
    specs = planned(Backend.TFLITE, "float32", "static_wi8_ai8", "dynamic_wi8", latency=LatencyProtocol.QUICK)
    runs, trials = waiting(specs, tmp_path)
    assert all(awaits_latency(one.result) for one in trials)
    assert {one.result["memory_why_not"] for one in trials} == {WAITING}
    timed = measure_latency(runs, tmp_path, silent, tmp_path / "shared")
    assert list(timed) == ["run0", "run1", "run2"]
    results = [timed[run.run_id].added_to(one.result) for run, one in zip(runs, trials, strict=True)]
    assert len({result["latency"]["float_p50_ms"] for result in results}) == 1
    for result in results:
        assert result["latency"]["p50_ms"] > 0
        assert result["memory"]["peak_rss_bytes"] > result["memory"]["runtime_baseline_bytes"] * 0.99
        assert "latency_why_not" not in result
        assert "memory_why_not" not in result
        assert result["provenance"]["seconds"]["latency"] > 0
    plain = results[0]["latency"]
    assert plain["p50_ms"] == plain["float_p50_ms"]
    assert plain["speedup_ci95"] == (1.0, 1.0)
    baselines = []
    for run in runs:
        samples = timed[run.run_id].samples
        assert samples is not None
        with np.load(samples) as file:
            assert {name.split("|")[0] for name in file.files} == {"candidate", "baseline"}
            baselines.append(file["baseline|samples_ns"])
            assert np.median(file["candidate|samples_ns"]) / 1e6 == pytest.approx(
                timed[run.run_id].sections["latency"]["p50_ms"]
            )
    assert all(np.array_equal(one, baselines[0]) for one in baselines)


def test_a_run_that_cannot_be_timed_costs_no_other(tmp_path: Path, brief: None) -> None:
    specs = planned(Backend.TFLITE, "static_wi8_ai8", "dynamic_wi8", latency=LatencyProtocol.QUICK)
    runs, trials = waiting(specs, tmp_path)
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model at all")
    timed = measure_latency([replace(runs[0], artefact=broken), runs[1]], tmp_path, silent, tmp_path / "shared")
    result = timed["run0"].added_to(trials[0].result)
    assert result["latency"] is None
    assert result["memory"] is None
    assert "ended with code 1" in result["latency_why_not"]
    assert not awaits_latency(result)
    assert timed["run0"].samples is None
    assert timed["run1"].sections["latency"]["p50_ms"] > 0


def test_runs_of_two_backends_are_not_timed_together(tmp_path: Path) -> None:
    specs = [*planned(Backend.TFLITE, "float32"), *planned(Backend.PYTORCH, "float32")]
    with pytest.raises(ValueError, match="one baseline"):
        measure_latency([Waiting(spec.backend, spec, tmp_path) for spec in specs], tmp_path, silent, tmp_path)


def test_what_is_simulated_is_never_timed(tmp_path: Path) -> None:
    (spec,) = planned(Backend.TFLITE, "binary", latency=LatencyProtocol.QUICK)
    result = done(spec, tmp_path / "trial", tmp_path / "shared").result
    assert not awaits_latency(result)
    assert str(result["latency_why_not"]).startswith("simulated: ")


def both_phases(spec: TrialSpec, workdir: Path, report: Report) -> Finished:
    """A whole trial with nobody to share with."""
    shared = workdir / "shared"
    finished = quantize_trial(spec, workdir, lambda done, words: report(0.6 * done, words), shared, lambda _news: None)
    runs = [Waiting("candidate", spec, finished.files["artefact"])]
    folder = workdir / "latency"
    folder.mkdir()
    timed = measure_latency(runs, folder, lambda done, words: report(0.6 + 0.4 * done, words), shared)["candidate"]
    files = finished.files if timed.samples is None else {**finished.files, "samples": timed.samples}
    return replace(finished, result=timed.added_to(finished.result), files=files)


def test_a_trial_by_itself_has_both_phases(tmp_path: Path, brief: None) -> None:
    (spec,) = planned(Backend.PYTORCH, "float32", latency=LatencyProtocol.QUICK)
    told: list[float] = []
    finished = both_phases(spec, tmp_path, lambda fraction, _words: told.append(fraction))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert finished.result["latency"]["eager_p50_ms"] > 0
    assert finished.result["latency"]["speedup_ci95"] == (1.0, 1.0)
    assert set(finished.files) == {"artefact", "details", "samples"}
    assert all(path.is_file() for path in finished.files.values())
    assert set(finished.result["provenance"]["seconds"]) == {"load", "float", "quantize", "fidelity", "quality", "latency"}
    assert NOTHING_NEW.items() <= finished.result.items()
