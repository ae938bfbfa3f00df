"""Training is reproducible: the command trains again and gets what is stated, and says so when it does not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models import train, zoo

ROOT = Path(__file__).parents[2]


def test_training_again_gives_the_stated_accuracy() -> None:
    command = [sys.executable, "-m", "models.train", "mnist-mlp", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "as stated" in run.stdout


def test_a_wrong_statement_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(zoo.WEIGHTS / "mnist-mlp.json", tmp_path)
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    stated = json.loads((tmp_path / "mnist-mlp.json").read_text("utf-8"))
    assert train.check("mnist-mlp", stated)
    assert train.check("mnist-mlp", stated | {"top1": stated["top1"] - train.TOLERANCE / 2})
    assert not train.check("mnist-mlp", stated | {"top1": stated["top1"] - train.TOLERANCE * 2})


@pytest.mark.parametrize("model_id", train.RECIPES)
def test_the_record_names_the_data_the_model_was_trained_on(model_id: str) -> None:
    from models import datasets

    record = json.loads((zoo.WEIGHTS / f"{model_id}.json").read_text("utf-8"))
    assert record["dataset_digest"] == datasets.load(record["dataset"]).info.digest
    assert record["epochs"] == train.RECIPES[model_id].epochs
    assert record["seed"] == train.SEED


def test_a_model_without_a_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        train.main(["efficientnet-lite0"])
    assert caught.value.code == 2
    assert "no recipe for efficientnet-lite0" in capsys.readouterr().err
