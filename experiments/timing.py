"""Latency of an experiment, measured last and alone: every run of one backend side by side, their float baseline once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import latency, latency_report
from benchmarks.latency import Candidate, Timing
from benchmarks.protocol import PROTOCOLS
from experiments.material import load_material
from experiments.shared import Baseline
from experiments.spec import TrialSpec
from quantizers.adapter import Report
from quantizers.errors import QuantScopeError
from quantizers.schema import Backend

WAITING = "waiting: latency is measured alone, together with the experiment's other trials"
BASELINE, EAGER = "baseline", "eager"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that has everything but its latency."""

    run_id: str
    spec: TrialSpec
    artefact: Path


@dataclass(frozen=True, slots=True)
class Timed:
    """The sections "latency" and "memory" of a run, or why there are none; the raw samples [n]; its share of the seconds."""

    sections: Mapping[str, Any]
    samples: Path | None
    seconds: float

    def added_to(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """A run's result with its latency."""
        provenance = result["provenance"]
        seconds = provenance["seconds"] | {"latency": round(self.seconds, 3)}
        waited = ("latency_why_not", "memory_why_not")
        kept = {name: value for name, value in result.items() if name not in waited}
        return kept | dict(self.sections) | {"provenance": provenance | {"seconds": seconds}}


def awaits_latency(result: Mapping[str, Any]) -> bool:
    """Whether a run's result still lacks the latency that was asked for."""
    return result.get("latency_why_not") == WAITING


def measure_latency(runs: Sequence[Waiting], workdir: Path, report: Report, shared: Path) -> Mapping[str, Timed]:
    """Times runs of one model, backend and measurement interleaved; a run that cannot be timed says why, and costs no other.

    Args:
        workdir: a folder for files of this call; the samples are left in it.
        shared: the folder that the trials were given.

    Raises:
        ValueError: the runs have different baselines.
        QuantScopeError: the float baseline cannot be built.
    """
    began = time.perf_counter()
    spec = runs[0].spec.float_baseline()
    if any(run.spec.float_baseline() != spec for run in runs):
        raise ValueError("only runs of one baseline can be timed together")
    material = load_material(spec)
    baseline = Baseline(spec, material, workdir, shared, report)
    conditions = spec.measurement
    candidates = [Candidate(BASELINE, spec.backend, baseline.path, spec.options)]
    if spec.backend is Backend.PYTORCH:
        candidates.append(Candidate(EAGER, spec.backend, baseline.path, {**spec.options, "lowered": False}))
    candidates += [Candidate(run.run_id, run.spec.backend, run.artefact, run.spec.options) for run in runs if run.spec != spec]
    protocol = PROTOCOLS[conditions.latency]
    timings = latency.measure_each(candidates, material.evaluation[:1], protocol, conditions.threads, conditions.seed, report)
    seconds = (time.perf_counter() - began) / len(runs)
    return {run.run_id: _timed(run, timings, workdir, seconds) for run in runs}


def _timed(run: Waiting, timings: Mapping[str, Timing | QuantScopeError], workdir: Path, seconds: float) -> Timed:
    own, baseline = timings.get(run.run_id, timings[BASELINE]), timings[BASELINE]
    for timing in (own, baseline):
        if isinstance(timing, QuantScopeError):
            why_not = f"{timing.message} {timing.hint}".strip()
            sections = {"latency": None, "latency_why_not": why_not, "memory": None, "memory_why_not": why_not}
            return Timed(sections, None, seconds)
    assert isinstance(own, Timing)
    assert isinstance(baseline, Timing)
    eager = timings.get(EAGER)
    measured = {"candidate": own, BASELINE: baseline} | ({EAGER: eager} if isinstance(eager, Timing) else {})
    conditions = run.spec.measurement
    figures = latency_report.summarise(
        own, baseline, measured.get(EAGER), threads=conditions.threads, batch=1, seed=conditions.seed
    )
    memory = {"peak_rss_bytes": own.peak_rss_bytes, "runtime_baseline_bytes": own.runtime_baseline_bytes}
    samples = workdir / f"{run.run_id}-samples.npz"
    np.savez_compressed(
        samples,
        **{
            f"{key}|{what}": getattr(timing, what)
            for key, timing in measured.items()
            for what in ("samples_ns", "blocks", "processes")
        },
    )
    return Timed({"latency": asdict(figures), "memory": memory}, samples, seconds)
