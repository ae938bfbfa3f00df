"""From raw samples to figures: percentiles, block-bootstrap intervals, and a verdict that knows noise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency import Timing

RESAMPLES = 2000
LEAST_FOR_P90, LEAST_FOR_P99 = 44, 459
"""Samples from which a 95 % interval of the percentile exists at all (order statistics)."""
NOISY_IQR, NOISY_DRIFT = 0.10, 0.05


class Verdict(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    NO_MEASURABLE_DIFFERENCE = "no_measurable_difference"


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of one candidate beside its baseline. `speedup` is baseline p50 ÷ own p50, above 1 when faster.

    `noisy` warns of a spread (IQR ÷ median) over 10 % or a drift between blocks over 5 %. `p90_ms` and `p99_ms` are None when
    there are too few samples for them.
    """

    threads: int
    batch: int
    n: int
    p50_ms: float
    p50_ci95_ms: tuple[float, float]
    p90_ms: float | None
    p99_ms: float | None
    iqr_ms: float
    throughput_per_s: float
    noisy: bool
    baseline: str
    float_p50_ms: float
    speedup: float
    speedup_ci95: tuple[float, float]
    verdict: Verdict
    eager_p50_ms: float | None
    speedup_vs_eager: float | None
    load_ms: float
    first_ms: float


def summarise(candidate: Timing, baseline: Timing, eager: Timing | None, *, threads: int, batch: int, seed: int) -> Latency:
    """The figures of `candidate`; `eager` is a second baseline that only PyTorch has."""
    own, reference = np.median(candidate.samples_ns), np.median(baseline.samples_ns)
    own_medians, reference_medians = _bootstrap(candidate, baseline, np.random.default_rng(seed))
    ratio = _interval(reference_medians / own_medians)
    quartiles = np.percentile(candidate.samples_ns, (25, 75))
    iqr = float(quartiles[1] - quartiles[0])
    eager_median = None if eager is None else float(np.median(eager.samples_ns))
    return Latency(
        threads=threads,
        batch=batch,
        n=candidate.samples_ns.size,
        p50_ms=own / 1e6,
        p50_ci95_ms=_interval(own_medians / 1e6),
        p90_ms=_percentile(candidate, 90, LEAST_FOR_P90),
        p99_ms=_percentile(candidate, 99, LEAST_FOR_P99),
        iqr_ms=iqr / 1e6,
        throughput_per_s=batch / (float(own) / 1e9),
        noisy=bool(iqr / own > NOISY_IQR or _drift(candidate) > NOISY_DRIFT or _drift(baseline) > NOISY_DRIFT),
        baseline="float32",
        float_p50_ms=reference / 1e6,
        speedup=float(reference / own),
        speedup_ci95=ratio,
        verdict=_verdict(ratio),
        eager_p50_ms=None if eager_median is None else eager_median / 1e6,
        speedup_vs_eager=None if eager_median is None else float(eager_median / own),
        load_ms=candidate.load_ms,
        first_ms=candidate.first_ms,
    )


def _bootstrap(
    candidate: Timing, baseline: Timing, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Medians of resampled blocks: both sides are given the same blocks, which lie side by side in time.

    Blocks are resampled, not single runs: runs within a block are alike, and counting them as independent would make the
    interval far too narrow.
    """
    own, reference = _by_block(candidate), _by_block(baseline)
    draws = random.integers(0, len(own), (RESAMPLES, len(own)))
    return np.median(own[draws], axis=1), np.median(reference[draws], axis=1)


def _by_block(timing: Timing) -> NDArray[np.float64]:
    """Median of every block, in ns."""
    return np.array([np.median(timing.samples_ns[timing.blocks == block]) for block in np.unique(timing.blocks)])


def _drift(timing: Timing) -> float:
    """Largest deviation of a block's median from the overall one, relative."""
    overall = float(np.median(timing.samples_ns))
    return float(np.abs(_by_block(timing) - overall).max() / overall)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _verdict(ratio: tuple[float, float]) -> Verdict:
    if ratio[0] > 1:
        return Verdict.FASTER
    return Verdict.SLOWER if ratio[1] < 1 else Verdict.NO_MEASURABLE_DIFFERENCE


def _percentile(timing: Timing, percent: float, least: int) -> float | None:
    if timing.samples_ns.size < least:
        return None
    return float(np.percentile(timing.samples_ns, percent)) / 1e6
