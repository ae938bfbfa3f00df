"""The command line as scripts meet it: one JSON document, stable names, exit codes. Everything runs for real."""

from pathlib import Path

import pytest
from command_line import cli, document

QUICKEST = ["--no-latency", "--calibration-samples", "50", "--eval-samples", "200"]


def test_models_and_techniques_are_listed(home: Path) -> None:
    models = {one["id"]: one for one in document(cli(home, "models", "--json"))["models"]}
    assert set(models) >= {"mnist-mlp", "mnist-cnn", "fashion-cnn", "fashion-resnet", "efficientnet-lite0"}
    assert models["mnist-mlp"]["parameters"] == 784 * 128 + 128 + 128 * 10 + 10
    codes = {one["code"]: one for one in document(cli(home, "techniques", "--backend", "tflite", "--json"))["techniques"]}
    assert codes["static_wi8_ai8"] | {"why_not": None, "available": True} == codes["static_wi8_ai8"]
    assert not codes["bfloat16"]["available"]
    assert codes["bfloat16"]["why_not"]


@pytest.mark.adapter
def test_a_run_is_printed_listed_shown_and_exported(home: Path, tmp_path: Path) -> None:
    ran = cli(home, "run", "--model", "mnist-mlp", "--backend", "tflite", "--technique", "all", "--json", *QUICKEST)
    assert ran.returncode == 0, ran.stderr
    runs = document(ran)["runs"]
    assert {run["status"] for run in runs} == {"done", "unavailable"}
    run = next(run for run in runs if run["technique"] == "static_wi8_ai8")
    assert run["layers_quantized"] == run["layers_total"] == 2
    assert run["quality"]["n"] == 200
    assert run["latency"] is None
    assert run["latency_why_not"]
    listed = document(cli(home, "list", "--model", "mnist-mlp", "--status", "done", "--json"))["runs"]
    assert {one["run_id"] for one in listed} == {one["run_id"] for one in runs if one["status"] == "done"}
    assert all("layers" not in one for one in listed)
    assert document(cli(home, "show", run["run_id"], "--json")) == run
    exported = cli(home, "export", run["run_id"], "--to", str(tmp_path / "out"))
    assert exported.returncode == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"run.json", "spec.json", "layers.csv", "details.npz", "model.tflite"}
    assert (tmp_path / "out" / "model.tflite").read_bytes() == Path(run["artefact"]["path"]).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--model", "nothing", "--technique", "float32"], "unknown_name"),
        (["--model", "mnist-mlp", "--technique", "nothing"], "unknown_name"),
        (["--model", "mnist-mlp", "--technique", "bfloat16"], "unsupported"),
        (["--model", "mnist-mlp", "--technique", "float32", "--calibration-samples", "0"], "bad_data"),
        (["--model", "mnist-mlp", "--technique", "float32", "--data", "photos"], "bad_data"),
        (["--model", "mnist-mlp", "--technique", "float32", "--data", "/nowhere/x.npz"], "bad_data"),
        (["--model", "mnist-mlp", "--technique", "float32", "--option", "nonsense"], "bad_input"),
        (["--model", "mnist-mlp", "--technique", "float32", "--option", "io=int8"], "unknown_name"),
    ],
)
def test_bad_input_is_exit_2_with_an_error_document(home: Path, arguments: list[str], code: str) -> None:
    ran = cli(home, "run", "--backend", "tflite", "--json", *arguments)
    assert ran.returncode == 2
    error = document(ran)["error"]
    assert error["code"] == code
    assert error["message"]
    assert document(cli(home, "list", "--json")) == {"runs": []}


def test_a_person_reads_the_error_on_standard_error(home: Path) -> None:
    ran = cli(home, "show", "nothing")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "There is no run “nothing”" in ran.stderr
    assert "Traceback" not in ran.stderr
