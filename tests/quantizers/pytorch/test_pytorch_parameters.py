"""What the adapter says is stored against what is stored, and against arithmetic done by hand."""

from __future__ import annotations

import zipfile

import numpy as np
import pt2_reader
import pytest

from models.architecture import BatchNorm
from models.float_model import FloatModel
from quantizers.adapter import QuantizedModel
from quantizers.schema import QuantizedTensor

pytestmark = pytest.mark.adapter

MODELS = ("mnist-mlp", "mnist-cnn", "fashion-cnn", "fashion-resnet")
TECHNIQUES = ("float32", "dynamic_wi8", "static_wi8_ai8", "weight_only_wi8")
VARIANTS = (
    ("fashion-cnn", "float32", {"lowered": False}),
    ("fashion-cnn", "dynamic_wi8", {"per_channel": False}),
    ("fashion-cnn", "static_wi8_ai8", {"per_channel": False}),
    ("fashion-cnn", "weight_only_wi8", {"per_channel": False}),
    ("fashion-cnn", "static_wi8_ai8", {"activations": "symmetric"}),
)
FURTHER = (
    "static_wi8_ai16",
    "static_wi4_ai8",
    "weight_only_wi4",
    "weight_only_wi4_g32",
    "weight_only_wi2",
    "weight_only_wi2_g32",
    "binary",
    "ternary",
    "hybrid_wf16_ai8",
    'mixed:{"conv1":8,"conv2":16,"dense":"float","conv*":2,"*":4}',
)
EVERY = [(model, code, {}) for model in MODELS for code in TECHNIQUES] + list(VARIANTS)
EVERY += [("fashion-cnn", code, {}) for code in FURTHER]


def _same(tensor: QuantizedTensor, grid: pt2_reader.Grid) -> None:
    assert tensor.dtype == grid.dtype
    assert (tensor.params is None) == (grid.scale is None)
    if tensor.params is not None:
        np.testing.assert_array_equal(tensor.params.scale, grid.scale)
        np.testing.assert_array_equal(tensor.params.zero_point, grid.zero_point)
        params = tensor.params
        found = (params.axis, params.group_size, params.qmin, params.qmax, params.dtype)
        assert found == (grid.axis, grid.group_size, grid.qmin, grid.qmax, grid.dtype)


@pytest.mark.parametrize(("model", "code", "options"), EVERY)
def test_every_parameter_is_the_one_in_the_file(quantize, model, code, options) -> None:
    case = quantize(model, code, **options)
    on_disk = pt2_reader.read(case.quantized.path)
    assert len(on_disk) == len(case.quantized.layers()) == len(case.float_model.layer_names)
    for layer, stored in zip(case.quantized.layers(), on_disk, strict=True):
        assert layer.op == stored.op
        _same(layer.weight, stored.weight)
        np.testing.assert_array_equal(layer.weight.codes, stored.codes)
        _same(layer.inputs[0], stored.source)
        _same(layer.output, stored.result)
        assert (layer.bias is None) == (stored.bias is None)
        if layer.bias is not None:
            np.testing.assert_array_equal(layer.bias.codes, stored.bias)


def _folded(model: FloatModel, name: str) -> np.ndarray:
    """A layer's weight with the batch norm behind it folded in, in float64."""
    weight = model.weights[f"{name}.weight"].astype(np.float64)
    for node in model.architecture.nodes:
        if isinstance(node, BatchNorm) and node.inputs == (name,):
            gamma, variance = (model.weights[f"{node.name}.{key}"].astype(np.float64) for key in ("weight", "running_var"))
            weight *= (gamma / np.sqrt(variance + node.epsilon)).reshape(-1, 1, 1, 1)
    return weight


def _weights(quantized: QuantizedModel) -> list[QuantizedTensor]:
    return [layer.weight for layer in quantized.layers() if layer.quantized]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("code", TECHNIQUES)
def test_references_are_the_float_weights_with_batch_norms_folded(quantize, model, code) -> None:
    case = quantize(model, code)
    for layer in case.quantized.layers():
        np.testing.assert_allclose(layer.weight.reference, _folded(case.float_model, layer.name), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("code", [code for code in TECHNIQUES if code != "float32"])
def test_weight_scales_are_the_absolute_maximum_over_127(quantize, code) -> None:
    for per_channel, options in ((True, {}), (False, {"per_channel": False})):
        for weight in _weights(quantize("fashion-cnn", code, **options).quantized):
            largest = np.abs(weight.reference).reshape(len(weight.reference) if per_channel else 1, -1).max(axis=1)
            np.testing.assert_allclose(weight.params.scale, largest / 127, rtol=1e-6)
            assert not weight.params.zero_point.any()
            assert weight.params.axis == (0 if per_channel else None)


@pytest.mark.parametrize("model", MODELS)
def test_codes_times_scale_are_the_weights_to_half_a_step(quantize, model) -> None:
    for weight in _weights(quantize(model, "static_wi8_ai8").quantized):
        scale = weight.params.scale.reshape(-1, *[1] * (weight.codes.ndim - 1))
        assert (np.abs(weight.codes * scale - weight.reference) <= scale * 0.5001).all()
        assert np.abs(weight.codes).max() == 127


def test_minmax_ranges_are_those_of_the_calibration_samples(quantize) -> None:
    case = quantize("fashion-cnn", "static_wi8_ai8", observer="minmax")
    source = case.quantized.layers()[0].inputs[0].params
    low, high = min(case.calibration.min(), 0), case.calibration.max()
    np.testing.assert_allclose(source.scale, (high - low) / 255, rtol=1e-6)
    assert source.zero_point == np.rint(-low / source.scale)


def test_a_float_artefact_keeps_its_batch_norms_only_when_it_is_not_to_be_lowered(quantize) -> None:
    def norms(lowered: bool) -> int:
        program = pt2_reader.load(quantize("fashion-cnn", "float32", lowered=lowered).quantized.path)
        return sum("batch_norm" in str(node.target) for node in program.graph.nodes)

    assert norms(lowered=True) == 0
    assert norms(lowered=False) == 5


def test_the_artefact_holds_no_float_weights_and_no_paths_of_this_machine(quantize) -> None:
    path = quantize("mnist-mlp", "static_wi8_ai8").quantized.path
    float_path = quantize("mnist-mlp", "float32").quantized.path
    assert path.stat().st_size < 0.4 * float_path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            assert b"site-packages" not in archive.read(name)
            assert b"torch_form.py" not in archive.read(name)
