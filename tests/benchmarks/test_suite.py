import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks.protocol import Protocol
from benchmarks.suite import BENCHMARKS, latency_noise
from benchmarks.suite.figure import Figure

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_a_benchmark_prints_one_document() -> None:
    done = run("weight_error", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["benchmark"] == "weight_error"
    figure = document["figures"]["seconds_per_million_weights"]
    assert set(figure) == {"value", "unit", "target"}
    assert figure["value"] > 0
    assert (figure["unit"], figure["target"]) == ("s", 0.2)


def test_a_benchmark_prints_a_table_for_people() -> None:
    done = run("weight_error")
    assert done.returncode == 0
    assert "seconds_per_million_weights" in done.stdout
    assert "target 0.2" in done.stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_an_unknown_benchmark_is_bad_input(as_json: bool) -> None:
    done = run("weight_eror", *["--json"] * as_json)
    assert done.returncode == 2
    assert "weight_error" in done.stdout
    if as_json:
        assert json.loads(done.stdout)["error"]["code"] == "unknown_name"


def test_without_a_name_all_of_them_run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in BENCHMARKS:
        monkeypatch.setitem(BENCHMARKS, name, lambda: {"figure": Figure(1.5, "s")})
    assert command_line.main(["--json"]) == 0
    figures = {"figure": {"value": 1.5, "unit": "s", "target": None}}
    expected = {"benchmarks": [{"benchmark": name, "figures": figures} for name in BENCHMARKS]}
    assert json.loads(capfd.readouterr().out) == expected


@pytest.mark.adapter
def test_a_model_is_timed_against_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_noise, "QUICK", Protocol(runs=50, seconds=0.1, limit_seconds=5.0, opening_seconds=0.0))
    figures = latency_noise.run()
    low, high = figures["ratio_ci95_low"].value, figures["ratio_ci95_high"].value
    assert low <= figures["ratio"].value <= high
    assert figures["interval_holds_1"].value == float(low <= 1 <= high)
    assert figures["p50"].value > 0
