"""Figures and names read as the house style says."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from made_runs import make_run

from pages._ui import format as fmt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0947, "0.0947"),
        (1.9, "1.90"),
        (12.345, "12.3"),
        (99.95, "100"),
        (123456.0, "123\u202f456"),
        (-0.5, "−0.500"),
        (4.25e-7, "4.25e−7"),
        (3.2e7, "3.20e7"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert fmt.number(value) == text


@given(some.floats(1e-4, 1e6, exclude_max=True))
def test_number_keeps_three_significant_digits(value: float) -> None:
    read = float(fmt.number(value).replace(fmt.SPACE, ""))
    assert read == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999\u202fB"), (45_200, "45.2\u202fKB"), (999_600, "1.00\u202fMB"), (1_310_000, "1.31\u202fMB"), (None, "–")],
)
def test_size_is_in_si_units(value: float | None, text: str) -> None:
    assert fmt.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.2, "1\u202fs"), (8, "8\u202fs"), (125, "2\u202fmin 5\u202fs"), (60, "1\u202fmin"), (4320, "1\u202fh 12\u202fmin")],
)
def test_seconds(value: float, text: str) -> None:
    assert fmt.seconds(value) == text


def test_a_difference_has_a_true_sign_and_zero_has_none() -> None:
    assert fmt.points(-0.3) == "−0.3\u202fpoints"
    assert fmt.points(1.0) == "+1.0\u202fpoint"
    assert fmt.points(-0.001) == "0.0\u202fpoints"


@pytest.mark.parametrize(
    ("ratio", "text"), [(3.62, "3.6× smaller"), (0.5, "2.0× larger"), (1.01, "same size"), (12.0, "12.0× smaller")]
)
def test_smaller(ratio: float, text: str) -> None:
    assert fmt.smaller(ratio) == text


def test_faster() -> None:
    assert fmt.faster(1.71) == "1.7× faster"
    assert fmt.faster(0.5) == "2.0× slower"
    assert fmt.faster(None) == "–"


def test_accuracy_carries_half_its_interval() -> None:
    assert fmt.accuracy({"top1": 0.912, "top1_ci95": [0.906, 0.918]}) == "91.2\u202f% ± 0.6"
    assert fmt.accuracy({"top1": None}) == "–"


def test_an_interval_that_holds_zero_is_within_noise() -> None:
    assert fmt.accuracy_verdict({"drop_pp": 0.2, "within_noise": True}) is fmt.SAME_ACCURACY
    assert fmt.accuracy_verdict({"drop_pp": 0.2, "within_noise": False}) is fmt.LESS_ACCURATE
    assert fmt.accuracy_verdict({"drop_pp": -0.2, "within_noise": False}) is fmt.MORE_ACCURATE
    assert fmt.accuracy_verdict({"drop_pp": None}) is None


def test_speed_verdict() -> None:
    assert fmt.speed_verdict({"verdict": "slower"}) is fmt.SLOWER
    assert fmt.speed_verdict({"verdict": "no_measurable_difference"}) is fmt.SAME_SPEED
    assert fmt.speed_verdict(None) is None


def test_why_a_section_is_missing() -> None:
    assert fmt.why_missing({"latency_why_not": "simulated: in float."}, "latency") == "Simulated: in float"
    assert fmt.why_missing({"status": "done"}, "latency") == "Not measured"
    assert fmt.why_missing({"status": "failed"}, "latency") == "The run is failed"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("static_wi8_ai8", "Full int8"),
        ("weight_only_wi4_g32", "Weight-only w4 group 32"),
        ("static_wi4_ai8", "Static w4 a8"),
        ('mixed:{"*":8}', "Mixed precision"),
        ("unheard of", "unheard of"),
    ],
)
def test_technique_name(code: str, name: str) -> None:
    assert fmt.technique_name(code) == name


def test_runs_of_one_name_are_told_apart_by_as_little_as_does_it() -> None:
    one = make_run("one", "tflite", "static_wi8_ai8")[0]
    wider = make_run("two", "tflite", "static_wi8_ai8", per_channel=False)[0]
    other = make_run("three", "tflite", "float16")[0]
    names = fmt.run_names([one, wider, other])
    assert names == {
        "one": "TFLite · Full int8 · per channel true",
        "two": "TFLite · Full int8 · per channel false",
        "three": "TFLite · Float16",
    }
    assert len(set(fmt.run_names([one, one | {"run_id": "four"}]).values())) == 2
