"""An analysis' own process: `python -m experiments.analysis_process FOLDER`. Everything heavy happens here and dies with it."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.engine import Engine
from benchmarks.sensitivity.analyse import RoundedWeights, analyse, round_weights
from benchmarks.sensitivity.mixed import float_bytes, measure_choice, packed_bytes, unquantized_bytes
from benchmarks.sensitivity.report import Sensitivity
from experiments.analysis import AnalysisSpec
from experiments.frontier import Frontier, Knapsack, Point, Width, cost
from experiments.jobs.isolation import hold_leash
from models import catalogue, datasets
from models.datasets import Samples, Split
from models.float_model import FloatModel
from quantizers.adapter import Report
from quantizers.errors import OutOfMemory, QuantScopeError, TrialError

DEFAULT_SAMPLES = 256
REPORT_EVERY_SECONDS = 0.25


def main(folder: Path) -> None:
    """Runs the analysis that the folder's spec.json asks for, and leaves result.json in it."""
    hold_leash(to_thread=False)
    spec = AnalysisSpec.from_dict(json.loads((folder / "spec.json").read_text(encoding="utf-8")))
    torch.set_num_threads(spec.threads)
    try:
        document = run(spec, _reporter(folder))
    except QuantScopeError as error:
        document = {"error": error.to_dict()}
    except MemoryError:
        document = {"error": OutOfMemory("The analysis ran out of memory.", "Use fewer samples.").to_dict()}
    except Exception as error:
        traceback.print_exc()
        what = f"The analysis failed unexpectedly: {type(error).__name__}: {error}"
        document = {"error": TrialError(what[:500], f"The log in {folder} holds the details.").to_dict()}
    _write(folder / "result.json", document)


def run(spec: AnalysisSpec, report: Report) -> dict[str, Any]:
    """The document of an analysis, ready for JSON.

    Raises:
        QuantScopeError: anything a person can cause or should know of.
    """
    began = time.perf_counter()
    report(0.0, "loading model and data")
    model = catalogue.load(spec.model)
    engine, labels = _engine(model, spec, Split.CALIBRATION)
    share = 0.6 if spec.frontier else 1.0
    found = analyse(
        engine,
        spec.bits,
        mode=spec.mode,
        metric=spec.metric,
        labels=labels,
        seed=spec.seed,
        report=lambda fraction, words: report(0.05 + (share - 0.05) * fraction, words),
        check=spec.frontier is None,
    )
    head = {"schema": 1, "model": spec.model, "data": spec.data, "threads": spec.threads, "seed": spec.seed}
    if spec.frontier is None:
        return head | asdict(found)
    frontier = _frontier(model, engine, spec, found, report)
    return head | asdict(replace(frontier, seconds=time.perf_counter() - began))


def _frontier(model: FloatModel, engine: Engine, spec: AnalysisSpec, found: Sensitivity, report: Report) -> Frontier:
    options = spec.frontier
    assert options is not None
    rounded = round_weights(engine, spec.bits)
    report(0.6, "searching the frontier")
    knapsack = Knapsack(_widths(engine, rounded, found), unquantized_bytes(engine))
    points, uniform = knapsack.sweep(options.points, options.objective), knapsack.uniform()
    equal = tuple(knapsack.solve(cost(point, options.objective), options.objective) for point in uniform)
    at = tuple(knapsack.solve(budget, options.objective) for budget in options.at)
    found_points = [*points, *uniform, *equal, *at]
    measured = _verify(model, spec, rounded, found_points, report) if options.verify else {}

    def final(some: Iterable[Point]) -> tuple[Point, ...]:
        return tuple(measured.get(point.technique, point) for point in some)

    return Frontier(
        mode=spec.mode,
        metric=spec.metric,
        objective=options.objective,
        samples=found.samples,
        float_bytes=float_bytes(engine),
        sensitivity_passes=found.cost_passes,
        seconds=0.0,
        points=final(points),
        uniform=final(uniform),
        equal=final(equal),
        at=final(at),
        widths=knapsack.widths,
        fixed_bytes=knapsack.fixed_bytes,
    )


def _widths(engine: Engine, rounded: RoundedWeights, found: Sensitivity) -> dict[str, tuple[Width, ...]]:
    macs = {layer.name: layer.macs for layer in engine.layers}
    widths: dict[str, tuple[Width, ...]] = {}
    for row in found.layers:
        width = Width(row.bits, row.loss, packed_bytes(rounded[row.name, row.bits]), macs[row.name] * row.bits)
        widths[row.name] = (*widths.get(row.name, ()), width)
    return widths


def _verify(
    model: FloatModel, spec: AnalysisSpec, rounded: RoundedWeights, points: list[Point], report: Report
) -> dict[str, Point]:
    """Runs every choice once on samples that it was not made on; by technique."""
    engine, labels = _engine(model, spec, Split.TEST)
    reference = engine.run()
    measured: dict[str, Point] = {}
    for done, point in enumerate(points):
        report(0.65 + 0.35 * done / len(points), f"running point {done + 1} of {len(points)}")
        if point.technique not in measured:
            losses = measure_choice(engine, reference, rounded, point.bits, labels)
            loss = losses.of(spec.metric)
            measured[point.technique] = replace(point, measured_loss=loss, measured_loss_why_not=None, measured=losses)
    return measured


def _engine(model: FloatModel, spec: AnalysisSpec, split: Split) -> tuple[Engine, Tensor | None]:
    """The model on samples of a split, and their labels if there are any."""
    samples = datasets.load(spec.data, model.info).split(split)
    chosen = samples.take(min(DEFAULT_SAMPLES, len(samples)) if spec.samples is None else spec.samples, spec.seed)
    datasets.check_fits(chosen, model.info)
    labels = None if chosen.y is None else torch.from_numpy(model.info.targets(chosen.y))
    return Engine(model.torch_module(), _tensor(model, chosen)), labels


def _tensor(model: FloatModel, samples: Samples) -> Tensor:
    """Preprocessed [N, C, …]."""
    batch = model.info.preprocess(samples.x)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(batch, -1, 1), np.float32))


def _reporter(folder: Path) -> Report:
    last = 0.0

    def report(fraction: float, words: str) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY_SECONDS:
            last = time.monotonic()
            _write(folder / "progress.json", {"fraction": fraction, "words": words})

    return report


def _write(path: Path, document: dict[str, Any]) -> None:
    half = path.with_suffix(".half")
    half.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    half.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
