import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from benchmarks.latency import Timing
from benchmarks.latency_report import Latency, Verdict, summarise
from benchmarks.protocol import BLOCKS, QUICK, STANDARD

PER_BLOCK, PROCESSES = 60, 5


def drawn(rng: np.random.Generator, ms: float, blocks: np.ndarray | float = 1.0, spread: float = 0.02) -> Timing:
    """A timing with a factor for every block and a spread within; each process runs as many blocks."""
    factors = np.broadcast_to(blocks, BLOCKS)
    samples = ms * 1e6 * np.repeat(factors, PER_BLOCK) * (1 + spread * rng.standard_normal(BLOCKS * PER_BLOCK))
    numbers = np.repeat(np.arange(BLOCKS), PER_BLOCK)
    return Timing(samples.astype(np.int64), numbers, numbers * PROCESSES // BLOCKS, 0, 0.0, 12.0, 3.0, 50_000_000, 40_000_000)


def given(samples: list[int] | np.ndarray) -> Timing:
    """A timing of two processes of one block each."""
    half = np.arange(len(samples)) * 2 // len(samples)
    return Timing(np.array(samples), half, half, 0, 0.0, 0.0, 0.0, 0, 0)


def report(candidate: Timing, baseline: Timing, eager: Timing | None = None, batch: int = 1) -> Latency:
    return summarise(candidate, baseline, eager, threads=1, batch=batch, seed=0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_percentiles_are_those_of_all_samples(rng: np.random.Generator) -> None:
    timing = drawn(rng, 2.0)
    found = report(timing, drawn(rng, 2.0))
    expected = np.percentile(timing.samples_ns, (50, 90, 99)) / 1e6
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx(expected)
    assert found.iqr_ms == pytest.approx(np.subtract(*np.percentile(timing.samples_ns, (75, 25))) / 1e6)
    assert found.n == BLOCKS * PER_BLOCK
    assert found.p50_ci95_ms[0] < found.p50_ms < found.p50_ci95_ms[1]
    assert (found.load_ms, found.first_ms, found.baseline) == (12.0, 3.0, "float32")


def test_throughput_counts_the_samples_of_a_batch_and_slow_runs_too() -> None:
    timing = given([1_000_000] * 9 + [11_000_000])
    assert report(timing, timing, batch=4).throughput_per_s == pytest.approx(4 * 10 / 0.020)


@pytest.mark.parametrize(("n", "p90", "p99"), [(43, False, False), (44, True, False), (458, True, False), (459, True, True)])
def test_percentiles_need_samples(n: int, p90: bool, p99: bool) -> None:
    timing = given(np.arange(1_000, 1_000 + n))
    found = report(timing, timing)
    assert (found.p90_ms is not None, found.p99_ms is not None) == (p90, p99)
    assert (found.p90_ms_why_not is None, found.p99_ms_why_not is None) == (p90, p99)
    assert p99 or str(n) in str(found.p99_ms_why_not)


@pytest.mark.parametrize(
    ("own", "verdict"), [(0.5, Verdict.FASTER), (2.0, Verdict.SLOWER), (1.0, Verdict.NO_MEASURABLE_DIFFERENCE)]
)
def test_the_verdict_is_the_intervals(rng: np.random.Generator, own: float, verdict: Verdict) -> None:
    noise = 1 + 0.01 * rng.standard_normal(BLOCKS)
    found = report(drawn(rng, own, noise), drawn(rng, 1.0, noise[::-1]))
    assert found.verdict is verdict
    assert found.speedup == pytest.approx(1 / own, rel=0.02)
    assert found.speedup_ci95[0] <= found.speedup <= found.speedup_ci95[1]


def test_drift_that_hits_both_alike_leaves_the_ratio_sharp(rng: np.random.Generator) -> None:
    drift = np.linspace(1.0, 1.5, BLOCKS)
    together = report(drawn(rng, 1.0, drift), drawn(rng, 1.1, drift))
    apart = report(drawn(rng, 1.0, drift), drawn(rng, 1.1, rng.permutation(drift)))
    assert together.verdict is Verdict.FASTER
    assert apart.verdict is Verdict.NO_MEASURABLE_DIFFERENCE
    assert together.noisy


def with_luck(rng: np.random.Generator, ms: float, drift: np.ndarray) -> Timing:
    """A timing in which every process has its own luck and every block its own noise, on a machine that drifts."""
    luck = np.repeat(1 + 0.01 * rng.standard_normal(PROCESSES), BLOCKS // PROCESSES)
    return drawn(rng, ms, drift * luck * (1 + 0.002 * rng.standard_normal(BLOCKS)))


@pytest.mark.parametrize("eager", [False, True])
def test_the_interval_holds_the_true_ratio_95_times_in_100(rng: np.random.Generator, eager: bool) -> None:
    held, times = 0, 150
    for _ in range(times):
        drift = 1 + 0.1 * rng.standard_normal(BLOCKS).cumsum() / BLOCKS
        own, base, other = (with_luck(rng, ms, drift) for ms in (1.0, 1.3, 2.0))
        low, high = report(own, base, other if eager else None).speedup_ci95
        held += low <= 1.3 <= high
    # 95 % of 150 is 142.5; fewer than 134 has a chance of 1 in 500.
    assert held >= 134


def test_the_interval_of_the_p50_holds_the_true_one_95_times_in_100(rng: np.random.Generator) -> None:
    held, times = 0, 150
    for _ in range(times):
        low, high = report(*(with_luck(rng, ms, np.ones(BLOCKS)) for ms in (1.0, 1.3))).p50_ci95_ms
        held += low <= 1.0 <= high
    assert held >= 134


def disturbed(rng: np.random.Generator) -> Latency:
    """A model beside one 1.3 times as slow, while something else is at work for almost half of the time, in bursts."""
    busy, moments = False, np.empty(2 * BLOCKS)
    for moment in range(2 * BLOCKS):
        busy = bool(rng.random() < (0.85 if busy else 0.12))
        moments[moment] = rng.uniform(1.2, 1.4) if busy else 1.0
    return report(drawn(rng, 1.0, moments[::2]), drawn(rng, 1.3, moments[1::2]))


def test_two_measurements_on_a_disturbed_machine_agree_within_their_intervals(rng: np.random.Generator) -> None:
    reports = [disturbed(rng) for _ in range(40)]
    pairs = list(itertools.combinations(reports, 2))
    ratios = sum(overlap(one.speedup_ci95, other.speedup_ci95) for one, other in pairs)
    medians = sum(overlap(one.p50_ci95_ms, other.p50_ci95_ms) for one, other in pairs)
    assert ratios / len(pairs) > 0.99
    assert medians / len(pairs) > 0.97


def overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def test_the_luck_of_a_process_is_not_taken_for_speed(rng: np.random.Generator) -> None:
    """Many runs in few processes tell much of these processes, and little of the model."""
    lucky = np.repeat([0.97, 1.01, 0.99, 1.0, 0.96], BLOCKS // PROCESSES)
    found = report(drawn(rng, 1.0, lucky, spread=0.001), drawn(rng, 1.0, spread=0.001))
    assert found.speedup > 1.005
    assert found.p50_ci95_ms[1] - found.p50_ci95_ms[0] > 0.005
    assert found.verdict is Verdict.NO_MEASURABLE_DIFFERENCE


@pytest.mark.parametrize(("spread", "drift", "noisy"), [(0.02, 1.0, False), (0.2, 1.0, True), (0.02, 1.08, True)])
def test_spread_and_drift_make_a_noisy_machine(rng: np.random.Generator, spread: float, drift: float, noisy: bool) -> None:
    factors = np.ones(BLOCKS)
    factors[3 : 3 + BLOCKS // 10] = drift
    calm = drawn(rng, 1.0)
    assert report(drawn(rng, 1.0, factors, spread), calm).noisy is noisy
    assert report(calm, drawn(rng, 1.0, factors, spread)).noisy is noisy


def test_blocks_that_were_disturbed_and_kept_make_a_noisy_machine(rng: np.random.Generator) -> None:
    calm = drawn(rng, 1.0)
    assert report(replace(calm, disturbed=0.1), drawn(rng, 1.0)).noisy
    assert report(drawn(rng, 1.0), replace(calm, disturbed=0.1)).noisy
    assert not report(replace(calm, disturbed=0.09, repeated=20), drawn(rng, 1.0)).noisy


def test_eager_is_a_second_baseline_of_pytorch(rng: np.random.Generator) -> None:
    own, base = drawn(rng, 1.0), drawn(rng, 1.5)
    with_eager, without = report(own, base, drawn(rng, 3.0)), report(own, base)
    assert with_eager.eager_p50_ms == pytest.approx(3.0, rel=0.02)
    assert with_eager.speedup_vs_eager == pytest.approx(3.0, rel=0.02)
    assert with_eager.eager_p50_ms_why_not is None
    assert without.eager_p50_ms is without.speedup_vs_eager is None
    assert "PyTorch" in str(without.eager_p50_ms_why_not)


def test_one_seed_gives_one_report_as_clean_json(rng: np.random.Generator) -> None:
    one, other = drawn(rng, 1.0), drawn(rng, 1.2)
    found = report(one, other)
    assert found == report(replace(one), other)
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["verdict"] == "faster"


@pytest.mark.parametrize(("protocol", "runs", "seconds", "limit"), [(QUICK, 100, 3, 60), (STANDARD, 1000, 30, 600)])
def test_a_protocol_wants_runs_and_seconds_or_its_limit(protocol, runs: int, seconds: float, limit: float) -> None:
    assert protocol.satisfied(runs, seconds)
    assert not protocol.satisfied(runs - 1, limit - 1)
    assert not protocol.satisfied(10 * runs, seconds - 0.1)
    assert protocol.satisfied(1, limit)


@pytest.mark.parametrize(("opening", "processes"), [(0.25, 5), (1.5, 5), (2.0, 3), (3.5, 2), (10.0, 2), (150.0, 2)])
def test_slow_loading_costs_processes_but_never_the_second(opening: float, processes: int) -> None:
    assert QUICK.processes(opening) == processes
