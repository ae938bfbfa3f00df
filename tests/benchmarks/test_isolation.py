"""Isolated errors against the plain way: run the float network with one layer's numbers exchanged."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.fidelity import ErrorSums
from benchmarks.isolation import BOTH, CHANGED_WEIGHT, WEIGHT_ONLY, IsolatedErrors, IsolatedReport
from models import datasets, zoo
from models.float_model import ZooModel
from models.folding import folded_weights
from quantizers import registry
from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.numerics import dequantize
from quantizers.schema import Backend, QuantizedLayer, Technique

SAMPLES = 24


def quantized(backend: Backend, code: str, model: ZooModel, folder: Path) -> tuple[list[QuantizedLayer], NDArray[np.float32]]:
    data = datasets.load(model.info.datasets[0])
    technique = Technique.parse(code)
    calibration = model.info.preprocess(data.split("calibration").take(16, 0).x) if technique.needs_calibration else None
    request = Request(technique, resolve_options(backend, technique, {}), calibration, folder)
    layers = registry.get(backend).quantize(model, request, lambda _fraction, _words: None).layers()
    return list(layers), model.info.preprocess(data.split("test").take(SAMPLES, 0).x)


def isolated(model: ZooModel, layers: list[QuantizedLayer], x: NDArray[np.float32]) -> dict[str, IsolatedReport]:
    errors = IsolatedErrors(model, layers)
    for start in range(0, len(x), 10):
        errors.add(x[start : start + 10])
    return dict(errors.reports())


@pytest.mark.parametrize("backend", list(Backend))
@pytest.mark.parametrize("layer_name", ["conv1", "block3_dw", "dense"])
def test_a_layers_error_is_that_of_exchanging_its_numbers(backend: Backend, layer_name: str, tmp_path: Path) -> None:
    model = zoo.load("fashion-cnn")
    layers, x = quantized(backend, "static_wi8_ai8", model, tmp_path)
    layer = next(layer for layer in layers if layer.name == layer_name)
    expected = {kind: ErrorSums() for kind in ("weight_only", "activation_only", "both")}
    for kind, sums in expected.items():
        sums.add(*outputs(model, layer, x, kind), kind)
    found = isolated(model, layers, x)[layer_name]
    for kind, sums in expected.items():
        assert getattr(found, kind).sqnr_db == pytest.approx(sums.figures().sqnr_db, abs=0.05)
        assert getattr(found, kind).cosine == pytest.approx(sums.figures().cosine, abs=1e-4)


def outputs(
    model: ZooModel, layer: QuantizedLayer, x: NDArray[np.float32], kind: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The layer's output behind batch norm and ReLU: in float, and with what `kind` names rounded."""
    module, found = model.torch_module(), {}
    ending = {"conv1": "conv1_relu", "block3_dw": "block3_dw_relu", "dense": "dense"}[layer.name]
    getattr(module, layer.name).register_forward_hook(lambda _m, given, _out: found.update(x=given[0]))
    getattr(module, ending).register_forward_hook(lambda _m, _given, out: found.update(y=out))
    with torch.inference_mode():
        module(torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))))
        reference, source = found["y"].numpy().copy(), found["x"]
        rounded = on_grid(source.numpy(), layer.inputs[0].params) if kind != "weight_only" else source.numpy()
        if kind != "activation_only":
            own = getattr(module, layer.name)
            share = dequantize(layer.weight.codes, layer.weight.params) - layer.weight.reference
            own.weight.data += torch.from_numpy(canonical(share, own.weight.shape) / gain(model, layer.name)).float()
        y = torch.from_numpy(np.ascontiguousarray(rounded, np.float32))
        for part in [layer.name] if layer.name == "dense" else [layer.name, f"{layer.name}_bn", f"{layer.name}_relu"]:
            y = getattr(module, part)(y)
    return reference, on_grid(y.numpy(), layer.output.params) if kind != "weight_only" else y.numpy()


def on_grid(x, params):
    if params is None:
        return x.astype(np.float32)
    codes = np.clip(np.rint(x / params.scale[0]) + params.zero_point[0], params.qmin, params.qmax)
    return ((codes - params.zero_point[0]) * params.scale[0]).astype(np.float32)


def canonical(error, shape):
    if len(shape) == 2:
        return error if error.shape == tuple(shape) and shape[0] == 10 else error.T
    return next(
        moved for axes in ((0, 1, 2, 3), (0, 3, 1, 2), (3, 0, 1, 2)) if (moved := error.transpose(axes)).shape == tuple(shape)
    )


def gain(model, layer):
    weight = model.weights[f"{layer}.weight"]
    return np.where(weight == 0, 1.0, folded_weights(model)[layer] / np.where(weight == 0, 1.0, weight))


def test_what_is_kept_in_float_has_no_error_and_says_so(tmp_path: Path) -> None:
    model = zoo.load("mnist-mlp")
    layers, x = quantized(Backend.ONNXRUNTIME, "weight_only_wi8", model, tmp_path)
    for report in isolated(model, layers, x).values():
        assert report.weight_only is not None
        assert report.activation_only is report.both is None
        assert "float" in str(report.activation_only_why_not)
        assert report.both_why_not == report.activation_only_why_not


def test_a_range_found_at_run_time_cannot_be_isolated(tmp_path: Path) -> None:
    model = zoo.load("mnist-mlp")
    layers, x = quantized(Backend.ONNXRUNTIME, "dynamic_wi8", model, tmp_path)
    assert {report.activation_only_why_not for report in isolated(model, layers, x).values()} == {
        "the range of activations is found as the model runs"
    }


def test_a_float_model_has_no_isolated_error(tmp_path: Path) -> None:
    model = zoo.load("mnist-mlp")
    layers, x = quantized(Backend.TFLITE, "float32", model, tmp_path)
    for report in isolated(model, layers, x).values():
        assert {asdict(report)[kind] for kind in ("weight_only", "activation_only", "both")} == {None}


def test_a_weight_that_is_not_the_models_is_not_compared(make_layer) -> None:
    model = zoo.load("mnist-mlp")
    strangers = [make_layer(name, shape=model.weights[f"{name}.weight"].shape) for name in model.layer_names]
    x = np.zeros((2, 28, 28, 1), np.float32)
    report = isolated(model, strangers, x)["dense1"]
    assert report.weight_only is None
    assert report.weight_only_why_not == CHANGED_WEIGHT
    assert {WEIGHT_ONLY, BOTH} <= set(asdict(report))
