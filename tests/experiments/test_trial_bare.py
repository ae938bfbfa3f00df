"""Whole trials of models that PyTorch finds no graph of: what is absent says why, in the result and wherever it is read."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import material
from experiments.export import layers_csv
from experiments.spec import ExperimentSpec, LatencyProtocol, Measurement, plan
from experiments.store.store import Finished
from experiments.trial import awaits_latency, quantize_trial
from models import catalogue, zoo
from models.float_model import ModelInfo
from pages._ui.charts_layers import LayerErrors, Part, title
from pages._ui.findings import find
from pages._ui.inspector_errors import table
from quantizers.schema import Backend

pytestmark = [
    pytest.mark.adapter,
    # torch.export calls what torch has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning", "ignore::UserWarning:torch"),
]
MODEL = "mnist-cnn"


def opaque(forward: Any) -> Any:
    """The network of the zoo in a module that has its layers and another way to call them."""
    import torch

    class Opaque(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = zoo.load(MODEL).torch_module()

        def forward(self, x: Any) -> Any:
            return forward(self.net, x)

    return Opaque().eval()


def one_at_a_time(net: Any, x: Any) -> Any:
    return net(x.reshape(1, *x.shape[1:]))


def not_at_all(net: Any, x: Any) -> Any:
    raise NotImplementedError("it lacks a part")


@dataclass(frozen=True)
class Own:
    info: ModelInfo
    forward: Any
    digest: str = "0" * 64

    def torch_module(self) -> Any:
        return opaque(self.forward)


def done(forward: Any, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finished:
    model = Own(catalogue.info(MODEL), forward)
    monkeypatch.setattr(material.catalogue, "load", lambda _model: model)
    measurement = Measurement("mnist-5k", calibration_samples=16, eval_samples=40, latency=LatencyProtocol.QUICK)
    (spec,) = plan(ExperimentSpec(MODEL, ((Backend.PYTORCH, code),), measurement)).trials
    return quantize_trial(spec, tmp_path, lambda _fraction, _words: None, tmp_path / "shared", lambda _news: None)


def run_of(finished: Finished) -> dict[str, Any]:
    """The run as it is stored and read back."""
    head = {"run_id": "r", "status": "done", "model": MODEL, "backend": "pytorch", "technique": "static_wi8_ai8"}
    document: dict[str, Any] = json.loads(json.dumps(head | finished.result | {"layers": finished.layers}, allow_nan=False))
    return document


def test_a_module_run_by_hooks_is_measured_but_for_its_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = done(one_at_a_time, "static_wi8_ai8", tmp_path, monkeypatch)
    run = run_of(finished)
    assert (run["execution"], run["latency"]) == ("simulated", None)
    assert "no graph" in run["latency_why_not"]
    assert not awaits_latency(run)
    assert [step["name"] for step in run["steps"]][-1] == "hooks"
    assert (run["layers_quantized"], run["layers_total"]) == (2, 2)
    assert run["quality"]["top1"] > 0.9
    assert run["quality"]["output_sqnr_db"] > 25
    assert run["size"]["ratio"] > 3
    assert all(layer["output"]["sqnr_db"] > 20 and layer["output_why_not"] is None for layer in run["layers"])
    assert finished.files["artefact"].suffix == ".safetensors"


def test_of_weights_alone_a_run_tells_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = done(not_at_all, "static_wi8_ai8", tmp_path, monkeypatch)
    run = run_of(finished)
    assert [step["name"] for step in run["steps"]][-1] == "weights alone"
    assert "it lacks a part" in run["steps"][0]["outcome"]
    for section in ("quality", "latency", "memory"):
        assert run[section] is None
        assert "only the weights" in run[f"{section}_why_not"]
    assert run["size"]["ratio"] > 3
    assert run["layers_quantized"] == 2
    for layer in run["layers"]:
        assert layer["weight"]["sqnr_db"] > 30
        assert (layer["output"], layer["inputs"]) == (None, [])
        assert "only the weights" in layer["output_why_not"]
    with np.load(finished.files["details"]) as arrays:
        assert not [name for name in arrays.files if "|output|" in name]
        assert [name for name in arrays.files if "|weight|" in name]


def test_pages_and_tables_say_what_weights_alone_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(done(not_at_all, "weight_only_wi4", tmp_path, monkeypatch))
    assert "lowest weight SQNR" in find(run["layers"]).text
    errors = LayerErrors.of([run], Part.OUTPUT)
    assert all("only the weights" in row[0] for row in errors.reasons)
    assert title(errors, {"r": "run"}) == "These runs have no error of any layer's output"
    remarks = table(run["layers"][0])["Remark"]
    assert sum("only the weights" in remark for remark in remarks) == 1
    rows = list(csv.DictReader(io.StringIO(layers_csv(run))))
    assert {row["tensor"] for row in rows} == {"weight", "bias"}
