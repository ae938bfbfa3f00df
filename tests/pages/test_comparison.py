"""Against its own float a run is judged by paired intervals, against any other by those of two separate measurements."""

from typing import Any

import pytest
from made_runs import make_run

from pages._ui import format as fmt
from pages._ui.comparison import against, against_float, relatives

FLOAT, INT8, HALF = (make_run(code, "tflite", code)[0] for code in ("float32", "static_wi8_ai8", "float16"))


def test_against_float_reads_what_the_trial_measured() -> None:
    relative = against_float(INT8)
    assert relative.ratio == INT8["size"]["ratio"]
    assert relative.change == -INT8["quality"]["drop_pp"]
    assert relative.speedup_bounds == tuple(INT8["latency"]["speedup_ci95"])
    assert (relative.accuracy, relative.speed) == (fmt.LESS_ACCURATE, fmt.FASTER)


def test_float_is_compared_with_nothing() -> None:
    relative = against_float(FLOAT)
    assert (relative.change, relative.speedup, relative.accuracy, relative.speed) == (None, None, None, None)


def test_against_another_run_the_interval_is_that_of_two_measurements() -> None:
    relative = against(INT8, HALF)
    assert relative.ratio == HALF["size"]["bytes"] / INT8["size"]["bytes"]
    low, high = INT8["latency"]["p50_ci95_ms"]
    other_low, other_high = HALF["latency"]["p50_ci95_ms"]
    assert relative.speedup_bounds == (other_low / high, other_high / low)
    assert relative.speed is fmt.FASTER


def test_newcombe_interval_of_two_proportions() -> None:
    """Newcombe 1998 (Statistics in Medicine 17), method 10, example (a): 56/70 against 48/80 gives 0.0524 to 0.3339."""
    a: dict[str, Any] = INT8 | {"quality": {"top1": 56 / 70, "top1_ci95": [0.6921, 0.8770]}}
    b: dict[str, Any] = HALF | {"quality": {"top1": 48 / 80, "top1_ci95": [0.4904, 0.7003]}}
    bounds = against(a, b).change_bounds
    assert bounds == pytest.approx((5.24, 33.39), abs=0.05)


def test_accuracies_on_other_data_are_not_compared() -> None:
    elsewhere = HALF | {"measurement": HALF["measurement"] | {"data": "mnist-5k"}}
    relative = against(INT8, elsewhere)
    assert (relative.change, relative.accuracy) == (None, None)
    assert relative.ratio is not None


def test_a_simulated_run_has_no_speed() -> None:
    simulated = make_run("w", "pytorch", "weight_only_wi8")[0]
    assert against_float(simulated).speed is None
    assert against(simulated, INT8).speedup is None


def test_relatives_follow_the_baseline() -> None:
    assert relatives([INT8, HALF], None) == [against_float(INT8), against_float(HALF)]
    assert relatives([INT8, HALF], HALF)[1].ratio == 1.0
