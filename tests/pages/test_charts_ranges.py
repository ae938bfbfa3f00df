"""Outputs against calibration: what was met, what was allowed for, and what is said of the two."""

from __future__ import annotations

import numpy as np
import pytest

from pages._ui.charts_ranges import Range, finding, ranges, ranges_figure
from pages._ui.theme import LIGHT

GRID = {"scale": [0.1], "zero_point": [0], "qmin": 0, "qmax": 20}
EDGES = np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0])


def run(output: dict[str, object], counts: list[int]) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    arrays = {"conv|output|edges": EDGES} | dict.fromkeys(
        ("conv|output|float", "conv|output|quantized"), np.array(counts, np.int64)
    )
    return {"backend": "tflite", "layers": [{"name": "conv", "output": output}]}, arrays


def test_what_was_met_is_the_filled_part_of_the_histogram() -> None:
    (found,) = ranges(*run(GRID, [0, 50, 40, 10, 0]))
    assert found.met == (0.0, 3.0)
    assert found.set == (0.0, 2.0)
    assert found.beyond == pytest.approx(10)
    assert finding([found]) == "10\u202f% of the outputs of conv lie beyond what calibration allowed for"
    bar, low, high = ranges_figure([found], "#007D5C", LIGHT).data
    assert (bar.base[0], bar.y[0]) == (0.0, 3.0)
    assert (low.y[0], high.y[0]) == found.set


def test_a_layer_in_float_has_no_calibrated_range() -> None:
    assert ranges(*run({"scale": None}, [0, 1, 1, 0, 0])) == []


def test_a_range_too_wide_is_told_from_one_that_fits() -> None:
    fits, loose = Range("a", (0.0, 1.9), (0.0, 2.0), 0.0), Range("b", (0.0, 0.5), (0.0, 2.0), 0.0)
    assert "holds all outputs" in finding([fits])
    assert finding([fits, loose]) == "b uses 25\u202f% of its calibrated range"
    assert Range("c", (1.0, 1.0), (0.0, 2.0), 0.0).slack == 1.0
