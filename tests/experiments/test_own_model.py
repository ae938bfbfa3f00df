"""A file of one's own on the command line: it joins the models, with what was said of it, and runs like any other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import own_model
from models import mine, zoo
from models.preprocessing import Preprocessing
from quantizers.errors import InputError
from quantizers.signature import Layout

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))
    path = tmp_path / "mine.onnx"
    path.write_bytes(zoo.load("mnist-mlp").onnx_model().SerializeToString())
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mean=127.5,std=127.5", Preprocessing((127.5,), (127.5,))),
        ("std=0.5:0.25:0.5,layout=NCHW", Preprocessing((0.0,), (127.5, 63.75, 127.5), layout=Layout.CHANNELS_FIRST)),
        ("order=BGR,label_offset=1", Preprocessing(bgr=True, label_offset=1)),
    ],
)
def test_preprocessing_in_words(words: str, expected: Preprocessing) -> None:
    assert own_model.preprocessing(words) == expected


@pytest.mark.parametrize("words", ["mean", "mean=a", "layout=NWCH", "colour=1", "std=0"])
def test_unreadable_preprocessing_is_refused_with_the_grammar(words: str) -> None:
    with pytest.raises(InputError) as caught:
        own_model.preprocessing(words)
    assert caught.value.hint


def test_shapes_in_words() -> None:
    assert own_model.shape("a=b=1x3x8") == ("a=b", (1, 3, 8))
    assert own_model.shape("sr=") == ("sr", ())
    for wrong in ("x", "x=1x?", "=1x3", "x=0x3"):
        with pytest.raises(InputError):
            own_model.shape(wrong)


def test_a_file_is_added_once_and_remembers_the_last_choice(file: Path) -> None:
    first = own_model.model_id(str(file), (), None, None)
    again = own_model.model_id(str(file), (), "mean=127.5,std=127.5", None)
    assert first == again
    assert len(mine.catalogue()) == 1
    assert mine.entry(first).preprocessing == Preprocessing((127.5,), (127.5,))
    assert own_model.model_id(first, (), None, None) == first
    with pytest.raises(InputError, match="no file"):
        own_model.model_id("mnist-mlp", ("x=1x2",), None, None)


@pytest.mark.adapter
def test_a_file_runs_like_a_model_of_the_zoo(file: Path) -> None:
    command = [sys.executable, "-m", "experiments", "run", "--model", str(file), "--backend", "onnxruntime", "--json"]
    chosen = ["--technique", "weight_only_wi8", "--data", "mnist-5k", "--eval-samples", "200", "--no-latency"]
    done = subprocess.run([*command, *chosen], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    run = json.loads(done.stdout)["runs"][0]
    assert (done.returncode, run["status"]) == (0, "done")
    assert run["model"] == mine.catalogue()[0].id
    assert run["quality"]["top1"] > 0.9
    assert [step["name"] for step in run["steps"]] == ["Opset", "Weights", "Preprocessing", "Weights", "Check", "Size"]
    listed = subprocess.run(
        [sys.executable, "-m", "experiments", "models", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(listed.stdout)["models"][-1]["source"] == "mine"
