"""The one path every run takes, whoever asked for it. Runs in a process of its own, never in the page's.

float model → quantized model → error, quality and size (`quantize_trial`, trials side by side) → time and memory, alone on the
machine and for all trials of an experiment together (`measure_latency`) → one result.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import distribution, machine, size
from benchmarks._session import WAIT_POLICY
from benchmarks.isolation import IsolatedErrors
from benchmarks.outputs import DIVERGED, LayerOutputs
from experiments.judgement import judge, unjudged
from experiments.material import Material, load_material
from experiments.shared import Baseline, quantize
from experiments.spec import LatencyProtocol, TrialSpec
from experiments.store.store import Finished
from experiments.timing import WAITING, Timed, Waiting, awaits_latency, measure_latency
from models.float_model import ZooModel
from quantizers import registry
from quantizers.adapter import Batch, Epoch, QuantizedModel, Report, not_run
from quantizers.schema import Execution, QuantizedLayer

__all__ = ["Timed", "Waiting", "awaits_latency", "measure_latency", "quantize_trial"]

ROOT = Path(__file__).parents[1]
ISOLATION_SAMPLES, ISOLATION_BATCH = 32, 8
"""Each layer's own error needs three passes more than its cumulative one; tens of samples are enough for errors in dB."""
NOT_ISOLATED = "only models of the zoo have a form in which single layers can be rounded"
Live = Callable[[Mapping[str, Any]], None]
"""Hears of what a trial knows before it is done, in the shape the result will have: {"training": {"epochs": […]}}."""


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


def quantize_trial(spec: TrialSpec, workdir: Path, report: Report, shared: Path, live: Live) -> Finished:
    """Quantizes a model, measures how good it is and how large; its latency may be left waiting (`awaits_latency`).

    Args:
        workdir: an empty folder; the files of the result lie in it or in `shared`.
        shared: a folder of the trials of one experiment, who find there what another one of them computed before.
        live: called after every epoch of training.

    Raises:
        QuantScopeError: anything a person can cause or should know of.
    """
    # OpenMP reads this once, when a library loads it. On a busy machine, threads that spin while they wait for each other make
    # single-sample runs thirty times slower. Latency, which is alone, is measured without it.
    os.environ.setdefault(WAIT_POLICY, "PASSIVE")
    clock = Stopwatch(report)
    with clock.stage("load", 0.0, 0.05, "Loading model and data"):
        material = load_material(spec)
    with clock.stage("float", 0.05, 0.3, "Building the float baseline") as progress:
        baseline = Baseline(spec, material, workdir, shared, progress)
    with clock.stage("quantize", 0.3, 0.6, "Quantizing") as progress:
        if spec == spec.float_baseline():
            candidate = baseline.model
        else:
            candidate = quantize(spec, material, workdir / "candidate", shared, progress, _Curve(live).add)
    with clock.stage("fidelity", 0.6, 0.8, "Comparing layer by layer"):
        described = candidate.layers()
        layers, arrays = _compare_layers(material, described, baseline, candidate)
    with clock.stage("quality", 0.8, 1.0, "Measuring accuracy"):
        judged = _judged(candidate, baseline.logits, material)
    result = {
        "execution": candidate.execution.value,
        "execution_why_not_native": candidate.execution_why,
        "layers_total": len(layers),
        "layers_quantized": sum(layer["quantized"] for layer in layers),
        "steps": [asdict(step) for step in getattr(candidate, "steps", ())],  # of backends that prepare files of any origin
        "size": asdict(size.measure(candidate.path, baseline.path, described)),
        **judged,
        **_without_latency(spec, candidate),
        "provenance": _provenance(spec, material, clock.seconds),
    }
    return Finished(result, layers, {"artefact": candidate.path, "details": _save(workdir / "details.npz", arrays)})


class _Curve:
    """Tells the learning curve so far after every epoch."""

    def __init__(self, live: Live) -> None:
        self._live, self._epochs = live, list[Mapping[str, Any]]()

    def add(self, epoch: Epoch) -> None:
        self._epochs.append(asdict(epoch))
        self._live({"training": {"epochs": list(self._epochs)}})


def _save(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def _compare_layers(
    material: Material, described: Sequence[QuantizedLayer], baseline: Baseline, candidate: QuantizedModel
) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Errors and histograms of every layer; both models run over the same batches, of which none is kept."""
    outputs = LayerOutputs(described, absent=not_run(candidate) or DIVERGED)
    for batch, reference in baseline.activations():
        outputs.add(reference, candidate.activations(batch))
    isolated = _isolated(material, described)
    layers = [asdict(report) | isolated[report.name] for report in outputs.reports()]
    return layers, distribution.weight_distributions(described) | outputs.arrays()


def _judged(candidate: QuantizedModel, float_logits: Batch | None, material: Material) -> dict[str, Any]:
    if why_not := not_run(candidate):
        return unjudged(why_not)
    assert float_logits is not None, "what runs has a baseline that does"
    return judge(candidate, float_logits, candidate.predict(material.evaluation), material)


def _isolated(material: Material, described: Sequence[QuantizedLayer]) -> dict[str, dict[str, Any]]:
    """Each layer's error by itself, or why there is none, under the layer's name."""
    if not isinstance(material.model, ZooModel):
        return {layer.name: {"isolated": None, "isolated_why_not": NOT_ISOLATED} for layer in described}
    errors = IsolatedErrors(material.model, described)
    samples = material.evaluation[:ISOLATION_SAMPLES]
    for start in range(0, len(samples), ISOLATION_BATCH):
        errors.add(samples[start : start + ISOLATION_BATCH])
    return {name: {"isolated": asdict(report), "isolated_why_not": None} for name, report in errors.reports().items()}


def _without_latency(spec: TrialSpec, candidate: QuantizedModel) -> dict[str, Any]:
    """The sections that the latency phase fills, and why it has not, or never will."""
    if spec.measurement.latency is LatencyProtocol.NONE:
        why_not = "not measured, by choice"
    elif candidate.execution is Execution.SIMULATED:
        why_not = f"simulated: {candidate.execution_why}"
    else:
        why_not = WAITING
    return {"latency": None, "latency_why_not": why_not, "memory": None, "memory_why_not": why_not}


def _provenance(spec: TrialSpec, material: Material, seconds: dict[str, float]) -> dict[str, Any]:
    """Everything one needs to judge a figure, or to obtain it again."""
    here = machine.describe()
    return {
        **asdict(here),
        "versions": dict(registry.get(spec.backend).versions()),
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
