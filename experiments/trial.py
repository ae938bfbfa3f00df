"""`run_trial`: the one path every run takes, whoever asked for it. Runs in a process of its own, never in the page's.

float model → quantized model → error, quality and size → time and memory, alone in fresh processes → one result.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import distribution, fidelity, latency, latency_report, machine, quality, size
from benchmarks.protocol import PROTOCOLS
from experiments.spec import LatencyProtocol, TrialSpec
from experiments.store.store import Finished
from models import datasets, zoo
from models.float_model import FloatModel
from quantizers import registry
from quantizers.adapter import Adapter, Batch, QuantizedModel, Report, Request
from quantizers.schema import Backend, Execution, QuantizedLayer, Technique

FIDELITY_SAMPLES = 256
"""Samples that per-layer errors and activation histograms are measured on; tens are enough for errors in dB."""
FIDELITY_BATCH = 32
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, eq=False)
class Material:
    """What a trial works on: a float model and preprocessed samples. `labels` is None for unlabelled data."""

    model: FloatModel
    calibration: Batch
    evaluation: Batch
    labels: NDArray[np.int64] | None
    dataset: dict[str, Any]


class Stopwatch:
    """Seconds of each named stage, and progress over all of them."""

    def __init__(self, report: Report) -> None:
        self.seconds: dict[str, float] = {}
        self._report = report

    @contextmanager
    def stage(self, name: str, start: float, end: float, words: str) -> Iterator[Report]:
        """Times a stage that spans the fractions `start` to `end` of the trial; yields a reporter for within it."""

        def inner(fraction: float, detail: str = "") -> None:
            self._report(start + fraction * (end - start), detail or words)

        inner(0.0)
        began = time.perf_counter()
        yield inner
        self.seconds[name] = round(time.perf_counter() - began, 3)


def run_trial(spec: TrialSpec, workdir: Path, report: Report) -> Finished:
    """Quantizes, measures and describes one trial.

    Args:
        workdir: an empty folder; the files of the result lie in it.

    Raises:
        QuantScopeError: anything a person can cause or should know of.
    """
    clock = Stopwatch(report)
    with clock.stage("load", 0.0, 0.05, "Loading model and data"):
        material = load_material(spec)
        adapter = registry.get(spec.backend)
    with clock.stage("float", 0.05, 0.2, "Building the float baseline") as progress:
        baseline = _quantize(adapter, material, spec.float_baseline(), workdir / "float", progress)
    with clock.stage("quantize", 0.2, 0.4, "Quantizing") as progress:
        candidate = _quantize(adapter, material, spec, workdir / "candidate", progress)
    with clock.stage("fidelity", 0.4, 0.55, "Comparing layer by layer"):
        described = candidate.layers()
        layers, arrays = _compare_layers(described, baseline, candidate, material.evaluation[:FIDELITY_SAMPLES])
    with clock.stage("quality", 0.55, 0.7, "Measuring accuracy"):
        predictions = baseline.predict(material.evaluation), candidate.predict(material.evaluation)
        task_quality = asdict(quality.compare(*predictions, material.labels, material.model.info.classes))
    result = {
        "execution": candidate.execution.value,
        "execution_why_not_native": candidate.execution_why,
        "layers_total": len(layers),
        "layers_quantized": sum(layer["quantized"] for layer in layers),
        "size": asdict(size.measure(candidate.path, baseline.path, described)),
        "quality": task_quality,
    }
    with clock.stage("latency", 0.7, 1.0, "Measuring latency") as progress:
        sections, timings = _time(spec, baseline, candidate, material.evaluation[:1], progress)
    result |= sections
    result["provenance"] = _provenance(spec, adapter, material, clock.seconds)
    files = {"artefact": candidate.path, "details": _save(workdir / "details.npz", arrays)}
    return Finished(result, layers, files | ({"samples": _save(workdir / "samples.npz", timings)} if timings else {}))


def _save(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def load_material(spec: TrialSpec) -> Material:
    """Loads the model and the samples of a trial."""
    conditions = spec.measurement
    assert conditions.calibration_samples is not None, "a planned trial has its numbers"
    assert conditions.eval_samples is not None, "a planned trial has its numbers"
    model = zoo.load(spec.model)
    data = datasets.load(conditions.data)
    calibration = data.split("calibration").take(conditions.calibration_samples, conditions.seed)
    evaluation = data.split("test").take(conditions.eval_samples, conditions.seed)
    for samples in (calibration, evaluation):
        datasets.check_fits(samples, model.info)
    return Material(
        model=model,
        calibration=model.info.preprocess(calibration.x),
        evaluation=model.info.preprocess(evaluation.x),
        labels=evaluation.y,
        dataset={
            "id": conditions.data,
            "sha256": data.info.digest,
            "n_calibration": len(calibration),
            "n": len(evaluation),
            "calibration_indexes": calibration.indices.tolist(),
        },
    )


def _quantize(adapter: Adapter, material: Material, spec: TrialSpec, folder: Path, report: Report) -> QuantizedModel:
    folder.mkdir()
    technique = Technique.parse(spec.technique)
    calibration = material.calibration if technique.needs_calibration else None
    request = Request(technique, spec.options, calibration, folder, spec.keep_float, spec.measurement.seed)
    return adapter.quantize(material.model, request, report)


def _compare_layers(
    described: Sequence[QuantizedLayer], baseline: QuantizedModel, candidate: QuantizedModel, samples: Batch
) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Errors and histograms of every layer; both models run over the same batches, of which none is kept."""
    batches = [samples[start : start + FIDELITY_BATCH] for start in range(0, len(samples), FIDELITY_BATCH)]
    errors, histograms = fidelity.LayerErrors(described), distribution.OutputHistograms(described)
    for batch in batches:
        reference, estimate = baseline.activations(batch), candidate.activations(batch)
        errors.add(reference, estimate)
        histograms.look(reference, estimate)
    for batch in batches:
        histograms.count(baseline.activations(batch), candidate.activations(batch))
    arrays = distribution.weight_distributions(described) | histograms.arrays()
    return [asdict(report) for report in errors.reports()], arrays


def _time(
    spec: TrialSpec, baseline: QuantizedModel, candidate: QuantizedModel, batch: Batch, report: Report
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The latency and memory sections of a run, or why there are none, and the raw samples."""
    why_not = _no_latency(spec, candidate)
    if why_not:
        return {"latency": None, "latency_why_not": why_not, "memory": None, "memory_why_not": why_not}, {}
    float_options = spec.float_baseline().options
    candidates = [
        latency.Candidate("candidate", spec.backend, candidate.path, spec.options),
        latency.Candidate("baseline", spec.backend, baseline.path, float_options),
    ]
    if spec.backend is Backend.PYTORCH:
        candidates.append(latency.Candidate("eager", spec.backend, baseline.path, {**float_options, "lowered": False}))
    conditions = spec.measurement
    protocol = PROTOCOLS[conditions.latency]
    timings = latency.measure(candidates, batch, protocol, conditions.threads, conditions.seed, report)
    own = timings["candidate"]
    figures = latency_report.summarise(
        own,
        timings["baseline"],
        timings.get("eager"),
        threads=conditions.threads,
        batch=len(batch),
        seed=conditions.seed,
    )
    memory = {"peak_rss_bytes": own.peak_rss_bytes, "runtime_baseline_bytes": own.runtime_baseline_bytes}
    samples = {
        f"{key}|{what}": getattr(timing, what)
        for key, timing in timings.items()
        for what in ("samples_ns", "blocks", "processes")
    }
    return {"latency": asdict(figures), "memory": memory}, samples


def _no_latency(spec: TrialSpec, candidate: QuantizedModel) -> str | None:
    if spec.measurement.latency is LatencyProtocol.NONE:
        return "not measured, by choice"
    if candidate.execution is Execution.SIMULATED:
        return f"simulated: {candidate.execution_why}"
    return None


def _provenance(spec: TrialSpec, adapter: Adapter, material: Material, seconds: dict[str, float]) -> dict[str, Any]:
    """Everything one needs to judge a figure, or to obtain it again."""
    here = machine.describe()
    return {
        **asdict(here),
        "versions": dict(adapter.versions()),
        "threads": spec.measurement.threads,
        "seed": spec.measurement.seed,
        "model_sha256": material.model.digest,
        "dataset": material.dataset,
        "git_commit": _git_commit(),
        "seconds": seconds,
    }


def _git_commit() -> str | None:
    """The commit this program was run from; None outside a checkout."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
