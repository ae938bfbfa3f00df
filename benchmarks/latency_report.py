"""From raw samples to figures: percentiles, intervals over blocks and processes, and a verdict that knows noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency import Timing

RESAMPLES = 2000
LEAST_FOR_P90, LEAST_FOR_P99 = 44, 459
"""Samples from which a percentile is reported."""
NOISY_IQR, NOISY_DRIFT, NOISY_BLOCKS = 0.10, 0.05, 0.10
CLOCK_DRIFT = 0.007
"""How far p50s of one model scatter between measurements on a quiet machine, as a standard deviation of their logarithms: 0.65
to 0.75 %, measured six times within five minutes. The clock drifts more slowly than a measurement lasts; ratios do not feel it.
"""
Interval = tuple[float, float]
NO_EAGER = "only PyTorch has an eager mode"


class Verdict(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    NO_MEASURABLE_DIFFERENCE = "no_measurable_difference"


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of one candidate beside its baseline. `speedup` is baseline p50 ÷ own p50, above 1 when faster.

    `noisy` warns of a spread (IQR ÷ median) over 10 %, or of a tenth of the blocks with a median more than 5 % off or with
    something else at work. `n` counts the samples that were kept, and throughput is that of all of them, slow ones too;
    `repeated_blocks` were disturbed and are not among them.
    """

    threads: int
    batch: int
    n: int
    p50_ms: float
    p50_ci95_ms: tuple[float, float]
    p90_ms: float | None
    p90_ms_why_not: str | None
    p99_ms: float | None
    p99_ms_why_not: str | None
    iqr_ms: float
    throughput_per_s: float
    noisy: bool
    repeated_blocks: int
    baseline: str
    float_p50_ms: float
    speedup: float
    speedup_ci95: tuple[float, float]
    verdict: Verdict
    eager_p50_ms: float | None
    eager_p50_ms_why_not: str | None
    speedup_vs_eager: float | None
    speedup_vs_eager_why_not: str | None
    load_ms: float
    first_ms: float


def summarise(candidate: Timing, baseline: Timing, eager: Timing | None, *, threads: int, batch: int, seed: int) -> Latency:
    """The figures of `candidate`; `eager` is a second baseline that only PyTorch has.

    The baseline itself is beside itself exactly as fast, with nothing to estimate: its ratio is 1, without an interval.
    """
    own, p50 = candidate.samples_ns, _p50(candidate)
    speedup = _p50(baseline) / p50
    beside = [candidate, *([] if candidate is baseline else [baseline]), *([eager] if eager else [])]
    ratio = (1.0, 1.0) if candidate is baseline else _ratio_interval(speedup, beside)
    p90, p90_why_not = _percentile(own, 90, LEAST_FOR_P90)
    p99, p99_why_not = _percentile(own, 99, LEAST_FOR_P99)
    return Latency(
        threads=threads,
        batch=batch,
        n=own.size,
        p50_ms=p50 / 1e6,
        p50_ci95_ms=_p50_interval(candidate, beside, np.random.default_rng(seed)),
        p90_ms=p90,
        p90_ms_why_not=p90_why_not,
        p99_ms=p99,
        p99_ms_why_not=p99_why_not,
        iqr_ms=_iqr(candidate) / 1e6,
        throughput_per_s=batch * own.size / (float(own.sum()) / 1e9),
        noisy=_noisy(candidate) or _noisy(baseline),
        repeated_blocks=candidate.repeated,
        baseline="float32",
        float_p50_ms=_p50(baseline) / 1e6,
        speedup=speedup,
        speedup_ci95=ratio,
        verdict=_verdict(ratio),
        eager_p50_ms=_p50(eager) / 1e6 if eager else None,
        eager_p50_ms_why_not=None if eager else NO_EAGER,
        speedup_vs_eager=_p50(eager) / p50 if eager else None,
        speedup_vs_eager_why_not=None if eager else NO_EAGER,
        load_ms=candidate.load_ms,
        first_ms=candidate.first_ms,
    )


def _ratio_interval(ratio: float, timings: Sequence[Timing]) -> Interval:
    """95 % interval of a `ratio` of the p50s of the first two, from how far processes differ that ran side by side.

    log p50 = candidate + generation of processes + luck of the one process: a two-way analysis of variance without
    repetitions, whose remainder is the luck. With two candidates it is the paired t-interval of their log ratio. A bootstrap
    would need more processes than there is time for.
    """
    from scipy.special import stdtrit

    logs = np.log([_p50s(timing, timing.processes) for timing in timings])
    candidates, generations = logs.shape
    luck = logs - logs.mean(axis=0) - logs.mean(axis=1, keepdims=True) + logs.mean()
    freedom = (candidates - 1) * (generations - 1)
    deviation = np.sqrt((luck**2).sum() / freedom * 2 / generations)
    return _around(logs[1].mean() - logs[0].mean(), stdtrit(freedom, 0.975) * deviation, ratio)


def _around(centre: float, reach: float, value: float) -> Interval:
    """What lies within `reach` of a mean of logarithms over processes, and `value`, the figure of all samples.

    The middle is that of the processes: a disturbance of about half of the time takes a median of all samples from one end of
    its range to the other, so that two measurements, each with an interval around its own median, would contradict each other.
    """
    return min(value, float(np.exp(centre - reach))), max(value, float(np.exp(centre + reach)))


def _p50_interval(timing: Timing, beside: Sequence[Timing], random: np.random.Generator) -> Interval:
    """95 % interval of the p50 in ms: it covers both what blocks and what processes say.

    A process keeps its luck as long as it lives, which blocks within it cannot show.
    """
    (low, high), (other_low, other_high) = _interval_over_blocks(timing, random), _interval_over_processes(timing, beside)
    return min(low, other_low), max(high, other_high)


def _interval_over_processes(timing: Timing, beside: Sequence[Timing]) -> Interval:
    """Student's t on the log p50s of processes; how much they scatter is learnt from all that were measured `beside`.

    What the clock does over minutes no measurement of seconds can show: it is added.
    """
    from scipy.special import ndtri, stdtrit

    logs = np.log([_p50s(one, one.processes) for one in beside])
    timings, generations = logs.shape
    deviation = np.sqrt(logs.var(axis=1, ddof=1).mean() / generations)
    reach = float(np.hypot(stdtrit(timings * (generations - 1), 0.975) * deviation, ndtri(0.975) * CLOCK_DRIFT))
    low, high = _around(logs[0].mean(), reach, _p50(timing))
    return low / 1e6, high / 1e6


def _interval_over_blocks(timing: Timing, random: np.random.Generator) -> Interval:
    """The expanded percentile interval of a bootstrap over blocks.

    Blocks are resampled, not single runs: runs within a block are alike, and counting them as independent would make the
    interval far too narrow. A plain percentile interval is too narrow for few blocks: it lacks both the factor √(n/(n−1)) and
    Student's t (Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69).
    """
    from scipy.special import ndtr, stdtrit

    count = int(timing.blocks.max()) + 1
    weights = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    tail = 100 * ndtr(-np.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.975))
    low, high = np.percentile(_resampled_p50(timing, weights) / 1e6, (tail, 100 - tail))
    return float(low), float(high)


def _resampled_p50(timing: Timing, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Median of the samples with each block taken as often as each row of `weights` [resamples, blocks] says."""
    order = np.argsort(timing.samples_ns, kind="stable")
    samples, blocks = timing.samples_ns[order], timing.blocks[order]
    medians = np.empty(len(weights))
    for row, weight in enumerate(weights):
        reached = np.cumsum(weight[blocks])
        medians[row] = samples[np.searchsorted(reached, reached[-1] / 2)]
    return medians


def _verdict(ratio: Interval) -> Verdict:
    if ratio[0] > 1:
        return Verdict.FASTER
    return Verdict.SLOWER if ratio[1] < 1 else Verdict.NO_MEASURABLE_DIFFERENCE


def _noisy(timing: Timing) -> bool:
    overall = _p50(timing)
    off = np.abs(_p50s(timing, timing.blocks) / overall - 1) > NOISY_DRIFT
    return _iqr(timing) / overall > NOISY_IQR or max(float(off.mean()), timing.disturbed) >= NOISY_BLOCKS


def _p50(timing: Timing) -> float:
    """Median of all samples, in ns."""
    return float(np.median(timing.samples_ns))


def _iqr(timing: Timing) -> float:
    """Interquartile range of all samples, in ns."""
    first, third = np.percentile(timing.samples_ns, (25, 75))
    return float(third - first)


def _p50s(timing: Timing, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Median of every group of samples, in ns."""
    return np.array([np.median(timing.samples_ns[groups == group]) for group in np.unique(groups)])


def _percentile(samples: NDArray[np.int64], percent: int, least: int) -> tuple[float | None, str | None]:
    """A percentile in ms, or None and why it is not reported."""
    if samples.size < least:
        return None, f"{samples.size} samples; p{percent} takes {least}"
    return float(np.percentile(samples, percent)) / 1e6, None
