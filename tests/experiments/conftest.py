"""A store in a directory of its own, and plans to put in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.spec import LatencyProtocol, Measurement, Plan, TrialSpec
from experiments.store.database import open_database
from experiments.store.store import Store
from quantizers.schema import Backend

QUICKEST = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.NONE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    yield Store(home)
    open_database(home).dispose()


@pytest.fixture
def two_trials() -> Plan:
    trials = [
        TrialSpec("mnist-mlp", Backend.TFLITE, code, QUICKEST, {"io": "int8", "per_channel": True} if "static" in code else {})
        for code in ("float32", "static_wi8_ai8")
    ]
    return Plan(tuple(trials), ())
