"""One sensitivity analysis: rounds every weight to every width, finds the losses in the mode asked for, and says what it cost.

Before each batch of work a plain pass over the batch is timed, so that the work and the evaluation passes it is counted in meet
the same state of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.engine import Engine
from benchmarks.sensitivity import exact, fast
from benchmarks.sensitivity.exact import Key
from benchmarks.sensitivity.output_error import check_output
from benchmarks.sensitivity.report import Agreement, LayerLoss, Losses, Metric, Mode, Sensitivity, check_bits
from benchmarks.sensitivity.rounding import RoundedWeight, round_weight
from quantizers.adapter import Report
from quantizers.errors import BadData, Unsupported

SHARES: Mapping[Mode, float] = {Mode.FAST: 3 / 4, Mode.BALANCED: 1 / 4, Mode.EXACT: 1.0}
"""Of the samples, what each mode looks at: an estimate gains less from the last quarter than it costs."""
CHECK_SHARE = 1 / 8
"""Of the samples, what the exact run sees that a fast estimate is held against."""
NO_ORDER = "the layers have no order: there is one only, or all have the same loss"
NOT_ESTIMATED = "this mode measures, it does not estimate"

RoundedWeights = Mapping[Key, RoundedWeight]


class _Meter:
    """The first `samples` of an engine in batches, with the time that everything but plain passes over them takes."""

    def __init__(self, engine: Engine, samples: int, report: Report) -> None:
        self._engine, self._samples, self._report = engine, samples, report
        self._passes = 0.0
        self._began = time.perf_counter()

    def batches(self) -> Iterator[Tensor]:
        batches = torch.split(self._engine.samples[: self._samples], self._engine.batch)
        for done, batch in enumerate(batches):
            self._report(done / len(batches), "measuring the layers")
            began = time.perf_counter()
            with torch.inference_mode():
                self._engine.graph_module(batch)
            self._passes += time.perf_counter() - began
            yield batch

    @property
    def seconds(self) -> float:
        """Of the work."""
        return time.perf_counter() - self._began - self._passes

    @property
    def pass_seconds(self) -> float:
        """Of one evaluation pass over all samples of the engine."""
        return self._passes * len(self._engine) / self._samples


def analyse(
    engine: Engine,
    bits: Sequence[int],
    *,
    mode: Mode,
    metric: Metric,
    labels: Tensor | None,
    seed: int,
    report: Report,
    check: bool = True,
) -> Sensitivity:
    """The loss of every layer at every width.

    Args:
        labels: of the engine's samples.
        check: whether a fast estimate is held against an exact run on a sample.

    Raises:
        BadData: no or impossible widths, or a metric that needs labels without any.
        Unsupported: a fast estimate of a metric that has none.
        QuantizationError: a weight or the float output is no number, or the output is all zero.
    """
    _check_request(bits, mode, metric, labels)
    check_output(engine.run())  # also warms the engine up
    samples = max(int(len(engine) * SHARES[mode]), 1)
    meter = _Meter(engine, samples, report)
    rounded = round_weights(engine, bits)
    if mode is Mode.FAST:
        losses = _estimate(engine, bits, rounded, metric, meter, seed)
    else:
        losses = exact.measure(engine, {key: one.values for key, one in rounded.items()}, labels, meter.batches())
    seconds, pass_seconds = meter.seconds, meter.pass_seconds
    agreement = _agreement(engine, rounded, losses, metric, report) if mode is Mode.FAST and check else None
    rows = [(layer.name, width) for layer in engine.layers for width in dict.fromkeys(bits)]
    return Sensitivity(
        mode=mode,
        metric=metric,
        samples=samples,
        cost_passes=seconds / pass_seconds,
        seconds=seconds,
        pass_seconds=pass_seconds,
        layers=tuple(LayerLoss(name=key[0], bits=key[1], loss=losses[key].of(metric), losses=losses[key]) for key in rows),
        agreement=agreement,
        agreement_why_not=None if agreement else NOT_ESTIMATED if mode is not Mode.FAST else "not asked for",
    )


def round_weights(engine: Engine, bits: Sequence[int]) -> RoundedWeights:
    """Every layer's weight at every width, by layer and width."""
    return {
        (layer.name, width): round_weight(layer.weight, width, layer.name)
        for layer in engine.layers
        for width in dict.fromkeys(bits)
    }


def _check_request(bits: Sequence[int], mode: Mode, metric: Metric, labels: Tensor | None) -> None:
    check_bits(bits)
    if metric is Metric.DROP and labels is None:
        raise BadData("Accuracy needs labels, and the data has none.", "Use the metric sqnr or kl.")
    if metric is Metric.DROP and mode is Mode.FAST:
        raise Unsupported("A gradient cannot estimate an accuracy drop.", "Use the mode balanced or exact.")


def _estimate(
    engine: Engine, bits: Sequence[int], rounded: RoundedWeights, metric: Metric, meter: _Meter, seed: int
) -> dict[Key, Losses]:
    widths = tuple(dict.fromkeys(bits))
    deltas = {
        layer.name: torch.stack([rounded[layer.name, width].values - layer.weight for width in widths])
        for layer in engine.layers
    }
    estimated = fast.estimate(engine, deltas, metric, meter.batches(), seed)
    return {
        (name, width): Losses.estimated(metric, loss)
        for name, losses in estimated.items()
        for width, loss in zip(widths, losses, strict=True)
    }


def _agreement(
    engine: Engine, rounded: RoundedWeights, losses: Mapping[Key, Losses], metric: Metric, report: Report
) -> Agreement:
    """Holds the estimate against an exact run; the fewest bits make the largest error, which a gradient knows least of."""
    bits = min(width for _, width in losses)
    samples = max(int(len(engine) * CHECK_SHARE), 1)
    meter = _Meter(engine, samples, lambda fraction, _words: report(fraction, "checking the estimate on a sample"))
    chosen = {key: one.values for key, one in rounded.items() if key[1] == bits}
    measured = exact.measure(engine, chosen, None, meter.batches())
    seconds, pass_seconds = meter.seconds, meter.pass_seconds
    spearman = rank_correlation([losses[key].of(metric) for key in measured], [one.of(metric) for one in measured.values()])
    return Agreement(
        spearman=spearman,
        spearman_why_not=NO_ORDER if spearman is None else None,
        bits=bits,
        layers=len(engine.layers),
        samples=samples,
        cost_passes=seconds / pass_seconds,
        seconds=seconds,
    )


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Spearman's; None where one side has no order."""
    from scipy.stats import spearmanr

    if len(set(left)) < 2 or len(set(right)) < 2:
        return None
    return float(spearmanr(left, right).statistic)
