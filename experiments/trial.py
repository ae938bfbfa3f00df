"""`run_trial`: the one path every run takes, whoever asked for it. Runs in a process of its own, never in the page's.

float model → quantized model → error, quality and size → time and memory, alone in fresh processes → one result.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import distribution, fidelity, latency, machine, quality, size
from experiments.spec import LatencyProtocol, TrialSpec, model_info
from experiments.store.store import Finished
from models import datasets, zoo
from models.float_model import FloatModel
from quantizers import registry
from quantizers.adapter import Adapter, Batch, QuantizedModel, Report, Request
from quantizers.schema import Backend, Execution, Technique

FIDELITY_SAMPLES = 256
"""Samples that per-layer errors and activation histograms are measured on; tens are enough for errors in dB."""
BATCH = 32


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
        layers, arrays = _compare_layers(baseline, candidate, material.evaluation[:FIDELITY_SAMPLES])
    with clock.stage("quality", 0.55, 0.7, "Measuring accuracy"):
        predictions = baseline.predict(material.evaluation), candidate.predict(material.evaluation)
        task_quality = asdict(quality.compare(*predictions, material.labels, material.model.info.classes))
    result = {
        "execution": candidate.execution.value,
        "execution_why_not_native": candidate.execution_why,
        "layers_total": len(layers),
        "layers_quantized": sum(layer["quantized"] for layer in layers),
        "size": asdict(size.measure(candidate.path, baseline.path, candidate.layers(), material.model.info.parameters)),
        "quality": task_quality,
    }
    with clock.stage("latency", 0.7, 1.0, "Measuring latency") as progress:
        sections, samples = _time(spec, baseline, candidate, material.evaluation[:1], progress)
    result |= sections
    result["provenance"] = _provenance(spec, adapter, material, clock.seconds)
    details = workdir / "details.npz"
    np.savez_compressed(details, **arrays, **samples)
    return Finished(result, layers, {"artefact": candidate.path, "details": details})


def load_material(spec: TrialSpec) -> Material:
    """Loads the model and the samples of a trial."""
    conditions = spec.measurement
    info = model_info(spec.model)
    data = datasets.load(conditions.data)
    datasets.check_fits(data, info)
    calibration = data.split("calibration").take(conditions.calibration_samples, conditions.seed)
    evaluation = data.split("test")
    if conditions.eval_samples is not None:
        evaluation = evaluation.take(conditions.eval_samples, conditions.seed)
    return Material(
        model=zoo.load(spec.model),
        calibration=info.preprocess(calibration.x),
        evaluation=info.preprocess(evaluation.x),
        labels=evaluation.y,
        dataset={"id": conditions.data, "sha256": data.digest, "n_calibration": len(calibration.x), "n": len(evaluation.x)},
    )


def _quantize(adapter: Adapter, material: Material, spec: TrialSpec, folder: Path, report: Report) -> QuantizedModel:
    folder.mkdir()
    technique = Technique.parse(spec.technique)
    calibration = material.calibration if technique.needs_calibration else None
    request = Request(technique, spec.options, calibration, folder, spec.keep_float, spec.measurement.seed)
    return adapter.quantize(material.model, request, report)
