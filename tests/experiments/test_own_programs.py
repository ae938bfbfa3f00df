"""Programs and bare weights of one's own on the command line: refused without trust, quantized for real with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from models import zoo

pytestmark = [
    pytest.mark.adapter,
    # torch.jit is deprecated as a whole.
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning"),
]
ROOT = Path(__file__).parents[2]
CODES = ("static_wi8_ai8", "weight_only_wi4")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))


def run(path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "experiments", "run", "--model", str(path), "--backend", "pytorch", "--json"]
    techniques = [word for code in CODES for word in ("--technique", code)]
    done = subprocess.run(
        [*command, "--no-latency", *techniques, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )
    return done.returncode, json.loads(done.stdout)


def test_an_exported_network_is_refused_without_trust_and_quantized_with_it(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "mnist.pt2"
    torch.export.save(torch.export.export(zoo.load("mnist-cnn").torch_module(), (torch.zeros(1, 1, 28, 28),)), path)
    code, refused = run(path)
    assert (code, refused["error"]["code"]) == (2, "unsupported")
    assert "--trust" in refused["error"]["hint"]

    code, document = run(path, "--trust", "--data", "mnist-5k", "--eval-samples", "200")
    assert code == 0
    for one in document["runs"]:
        assert one["status"] == "done"
        assert (one["layers_quantized"], one["layers_total"]) == (2, 2)
        assert [layer["name"] for layer in one["layers"]] == ["conv1", "dense"]
        assert one["steps"] == [{"name": "torch.export", "outcome": "taken: the graph computes what the module does"}]
        assert one["quality"]["top1"] > 0.9
        assert one["size"]["ratio"] > 1.5


def test_a_compiled_network_is_quantized_once_its_shape_is_known(tmp_path: Path) -> None:
    import torch

    path, weights = tmp_path / "mnist.ts", zoo.load("mnist-cnn").torch_module().state_dict()
    layers = {"conv1": torch.nn.Conv2d(1, 12, 3), "relu": torch.nn.ReLU(), "pool": torch.nn.MaxPool2d(2)}
    layers |= {"flatten": torch.nn.Flatten(), "dense": torch.nn.Linear(12 * 13 * 13, 10)}
    module = torch.nn.Sequential(OrderedDict(layers)).eval()
    module.load_state_dict(weights)
    torch.jit.save(torch.jit.script(module), path)
    code, refused = run(path, "--trust")
    assert code == 2
    assert "what shape the input input has" in refused["error"]["message"]

    code, document = run(path, "--trust", "--input-shape", "input=1x1x28x28", "--data", "mnist-5k", "--eval-samples", "200")
    assert code == 0
    for one in document["runs"]:
        assert (one["status"], one["layers_quantized"], one["layers_total"]) == ("done", 2, 2)
        assert [step["name"] for step in one["steps"]] == ["torch.export", "torch.export, strict", "TorchScript"]
        assert one["quality"]["top1"] > 0.9


def test_weights_of_no_known_architecture_are_looked_at_alone(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    values = np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype(np.float32)
    tensors = {"stem.weight": values, "head.weight": values.reshape(8, 36), "head.bias": np.zeros(8, np.float32)}
    save_file(tensors, tmp_path / "w.safetensors")
    code, document = run(tmp_path / "w.safetensors")
    assert code == 0
    for one in document["runs"]:
        assert (one["status"], one["layers_quantized"], one["execution"]) == ("done", 2, "simulated")
        assert one["quality"] is None
        assert "only the weights" in one["quality_why_not"]
        assert all(layer["output"] is None and layer["weight"]["sqnr_db"] > 10 for layer in one["layers"])
        assert one["size"]["ratio"] > 1
