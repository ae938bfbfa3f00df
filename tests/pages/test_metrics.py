"""The frontier holds what nothing beats; a budget picks the best of what fits, and says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from made_runs import make_run

from pages._ui import format as fmt
from pages._ui.metrics import METRICS, choose, frontier

SIZE, CHANGE = METRICS["size"], METRICS["change"]
RUNS = [make_run(code, "tflite", code)[0] for code in ("float32", "float16", "static_wi8_ai8")]
NAMES = fmt.run_names(RUNS)
POINTS = some.lists(some.tuples(some.integers(0, 9), some.integers(0, 9)), min_size=1, max_size=12)


def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Smaller is better on the first axis, larger on the second."""
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(POINTS)
def test_frontier_is_exactly_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    expected = {i for i, mine in enumerate(points) if not any(beats(other, mine) for other in points)}
    assert set(frontier(points, SIZE, CHANGE)) == expected


@given(POINTS)
def test_frontier_runs_along_the_first_axis(points: list[tuple[float, float]]) -> None:
    along = [points[index] for index in frontier(points, SIZE, CHANGE)]
    assert along == sorted(along)


def test_accuracy_change_is_the_drop_turned_round() -> None:
    run = RUNS[2]
    assert CHANGE.value(run) == -run["quality"]["drop_pp"]
    low, high = run["quality"]["drop_pp_ci95"]
    assert CHANGE.bounds(run) == (-high, -low)


def test_a_figure_that_was_not_measured_is_none() -> None:
    simulated = make_run("w", "pytorch", "weight_only_wi8")[0]
    assert METRICS["latency"].value(simulated) is None
    assert METRICS["latency"].bounds(simulated) is None
    assert METRICS["memory"].value(simulated | {"memory": None}) is None
    assert METRICS["memory"].value(simulated) == pytest.approx(7.0)


def test_budget_picks_the_best_that_fits_and_says_why() -> None:
    answer = choose(RUNS, NAMES, {"size": 100.0}, prefer=SIZE)
    assert answer.run_id == "static_wi8_ai8"
    assert "of the 2 that do it is the smallest (50.7\u202fKB)" in answer.words


def test_budget_that_one_run_fits() -> None:
    answer = choose(RUNS, NAMES, {"size": 100.0, "change": -0.1}, prefer=SIZE)
    assert answer.run_id == "float16"
    assert "the only one" in answer.words


def test_budget_that_nothing_fits_names_the_nearest() -> None:
    answer = choose(RUNS, NAMES, {"size": 10.0}, prefer=SIZE)
    assert answer.run_id is None
    assert "the nearest is TFLite · Full int8 (50.7\u202fKB)" in answer.words


def test_a_run_without_the_figure_does_not_fit() -> None:
    simulated = make_run("w", "pytorch", "weight_only_wi8")[0]
    answer = choose([simulated], {"w": "W"}, {"latency": 100.0}, prefer=SIZE)
    assert answer.run_id is None
    assert "was measured for none" in answer.words
