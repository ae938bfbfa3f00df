"""Estimates come from what was measured, or not at all."""

from typing import Any

from pages._ui.durations import Durations, Kind

NOW = 1000.0


def run(seconds: float, technique: str = "float32", **changes: Any) -> dict[str, Any]:
    base = {"model": "mnist-cnn", "backend": "tflite", "technique": technique, "measurement": {"latency": "quick"}}
    return base | {"status": "done", "started": NOW - seconds, "finished": NOW, "progress": 1.0} | changes


def kind(technique: str = "float32", **changes: str) -> Kind:
    return Kind(**{"model": "mnist-cnn", "backend": "tflite", "technique": technique, "latency": "quick"} | changes)


def test_the_same_kind_counts_before_its_relatives() -> None:
    durations = Durations([run(10), run(12), run(50), run(99, "float16")])
    assert durations.typical(kind()) == 12
    assert durations.typical(kind("dynamic_wi8")) == 31


def test_nothing_is_guessed() -> None:
    durations = Durations([run(10), run(5, model="mnist-mlp", status="failed")])
    assert durations.typical(kind(model="mnist-mlp")) is None
    assert durations.typical(kind(latency="standard")) is None
    assert durations.total([kind(), kind(model="mnist-mlp")]) is None
    assert durations.total([kind(), kind()]) == 20


def test_time_left_follows_its_like_and_then_its_own_progress() -> None:
    durations = Durations([run(10)])
    active = {"status": "running", "finished": None}
    assert durations.remaining(run(4) | active | {"progress": 0.9}, NOW) == 6
    assert durations.remaining(run(20) | active | {"progress": 0.5}, NOW) == 20
    assert durations.remaining(run(20) | active | {"progress": 0.05}, NOW) is None
    assert durations.remaining(run(0) | active | {"started": None}, NOW) == 10
