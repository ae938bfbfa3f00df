"""`sensitivity` and `frontier` as scripts meet them, on every model of the zoo."""

from pathlib import Path

import pytest
from command_line import cli, document

from experiments.analysis import Analyses, AnalysisSpec
from models import zoo
from quantizers.schema import Status, Technique


@pytest.mark.parametrize("model", [info.id for info in zoo.catalogue()])
def test_sensitivity_ranks_the_layers_of_every_model(home: Path, model: str) -> None:
    ran = cli(home, "sensitivity", "--model", model, "--samples", "8", "--json")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    found = document(ran)
    assert (found["mode"], found["metric"]) == ("fast", "sqnr")
    assert found["cost_passes"] > 0
    assert found["seconds"] > 0
    names = zoo.design(model).layer_names
    assert [(row["name"], row["bits"]) for row in found["layers"]] == [(name, bits) for name in names for bits in (4, 8)]
    assert all(row["loss"] > 0 for row in found["layers"])
    assert found["agreement"]["layers"] == len(names)


def test_a_frontier_is_verified_and_runs_find_it(home: Path) -> None:
    ran = cli(home, "frontier", "--model", "fashion-cnn", "--points", "5", "--samples", "64", "--verify", "--json")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    found = document(ran)
    assert len(found["points"]) >= 4
    names = list(zoo.design("fashion-cnn").layer_names)
    for point in found["points"]:
        assert Technique.parse(point["technique"]).bits_by_layer(names) == point["bits"]
        assert point["bytes"] < found["float_bytes"]
        assert point["measured_loss"] == point["measured"]["noise_ratio"]
        # Losses of single layers roughly add up.
        assert 1 / 5 < point["measured_loss"] / point["predicted_loss"] < 5
        assert point["run_id"] is None
        assert point["run_id_why_not"]
    for uniform, equal in zip(found["uniform"], found["equal"], strict=True):
        assert equal["bytes"] <= uniform["bytes"]
        assert equal["predicted_loss"] <= uniform["predicted_loss"] * (1 + 1e-6)


def test_a_person_reads_tables(home: Path) -> None:
    ranked = cli(home, "sensitivity", "--model", "mnist-cnn", "--samples", "8", "--mode", "exact", "--metric", "drop")
    assert "accuracy drop, points" in ranked.stdout
    assert "evaluation passes" in ranked.stdout
    searched = cli(home, "frontier", "--model", "mnist-cnn", "--points", "2", "--samples", "8")
    assert "predicted loss" in searched.stdout
    assert (ranked.returncode, searched.returncode) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["sensitivity", "--model", "nothing"], "unknown_name"),
        (["sensitivity", "--model", "mnist-mlp", "--bits", "1"], "bad_data"),
        (["sensitivity", "--model", "mnist-mlp", "--bits", ""], "bad_data"),
        (["sensitivity", "--model", "mnist-mlp", "--bits", "four"], "bad_input"),
        (["sensitivity", "--model", "mnist-mlp", "--samples", "0"], "bad_data"),
        (["sensitivity", "--model", "mnist-mlp", "--samples", "501"], "bad_data"),
        (["sensitivity", "--model", "mnist-mlp", "--data", "nothing"], "unknown_name"),
        (["frontier", "--model", "mnist-mlp", "--points", "0"], "bad_data"),
        (["frontier", "--model", "mnist-mlp", "--bits", "3"], "bad_data"),
    ],
)
def test_bad_input_is_exit_2_with_an_error_document(home: Path, arguments: list[str], code: str) -> None:
    ran = cli(home, *arguments, "--json")
    assert ran.returncode == 2, ran.stderr
    error = document(ran)["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["hint"] or code == "unknown_name"


def test_a_death_is_told_with_its_last_words(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(home))
    (home / "sitecustomize.py").write_text("raise SystemExit('no memory')", encoding="utf-8")
    analyses, spec = Analyses(home), AnalysisSpec.of("mnist-mlp")
    assert analyses.state(spec).status is Status.QUEUED
    analyses.start(spec)
    while (state := analyses.state(spec)).status is Status.RUNNING:
        pass
    analyses.stop(spec)
    assert state.status is Status.FAILED
    assert state.error is not None
    assert "before it had a result" in state.error.message
    assert "no memory" in state.error.hint
