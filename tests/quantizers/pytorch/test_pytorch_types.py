"""Half precision, wide activations, hybrid and mixed types, and the choices of calibration: what they store and compute."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pt2_reader
import pytest
import torch
from pt2_reader import sqnr_db
from torch import nn

from models import zoo
from quantizers.adapter import Request
from quantizers.capabilities import MIXED, capability
from quantizers.errors import NothingQuantized, UnknownName, Unsupported
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.pytorch.annotate import KEPT_BY_CHOICE
from quantizers.schema import Backend, Execution, Mode, Scheme, Technique

pytestmark = pytest.mark.adapter

MODEL = "fashion-cnn"
CLOSENESS_DB = {
    "float16": 50,
    "bfloat16": 35,
    "static_wi8_ai16": 35,
    "hybrid_wf16_ai8": 30,
    "weight_only_wi4": 12,
    "weight_only_wi4_g32": 12,
    "static_wi4_ai8": 12,
}
"""Least SQNR of logits; a bit is worth about 6 dB, and a bfloat16 has 8 bits of precision, a float16 11."""
MIXED_CODE = 'mixed:{"conv1":8,"conv2":16,"dense":"float","conv*":2,"*":4}'


def nchw(batch: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))


def run(code, tmp_path, keep_float=(), options=None):
    samples = np.linspace(0, 1, 2 * 28 * 28, dtype=np.float32).reshape(2, 28, 28, 1)
    request = Request(Technique.parse(code), options or {}, samples, tmp_path, keep_float)
    return PyTorchAdapter().quantize(zoo.load("mnist-mlp"), request, lambda fraction, words: None)


@pytest.mark.parametrize(("code", "least"), CLOSENESS_DB.items())
def test_predictions_are_those_of_the_file_and_close_to_the_float_model(quantize, code, least) -> None:
    case = quantize(MODEL, code)
    program = pt2_reader.load(case.quantized.path).module()
    half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(code, torch.float32)
    logits = case.quantized.predict(case.test)
    with torch.no_grad():
        np.testing.assert_array_equal(logits, program(nchw(case.test).to(half)).float().numpy())
    assert sqnr_db(quantize(MODEL, "float32").quantized.predict(case.test), logits) > least


@pytest.mark.parametrize("code", ["float16", "bfloat16"])
def test_a_half_precision_artefact_holds_and_computes_nothing_but_that_type(quantize, code) -> None:
    case = quantize(MODEL, code)
    program = pt2_reader.load(case.quantized.path)
    assert {str(tensor.dtype) for tensor in program.state_dict.values()} == {f"torch.{code}"}
    assert case.quantized.execution is Execution.NATIVE
    for layer in case.quantized.layers():
        assert (layer.quantized, layer.runs_in, layer.weight.dtype, layer.bias.dtype) == (True, code, code, code)
        expected = torch.from_numpy(layer.weight.reference).to(getattr(torch, code)).float().numpy()
        np.testing.assert_array_equal(layer.weight.codes.astype(np.float32), expected)


@pytest.mark.parametrize("code", ["float16", "bfloat16"])
def test_a_half_precision_session_agrees_with_the_artefact(quantize, code) -> None:
    case = quantize(MODEL, code)
    session = PyTorchAdapter().open(case.quantized.path, case.options, threads=1)
    logits = session.run(session.prepare(case.test[:32]))
    assert logits.dtype == np.float32
    assert sqnr_db(case.quantized.predict(case.test[:32]), logits) > 30


def test_half_precision_keeps_no_layer_float_and_says_so(tmp_path) -> None:
    with pytest.raises(Unsupported, match="whole model"):
        run("bfloat16", tmp_path, keep_float=("dense1",))


def test_half_precision_of_a_model_without_layers_quantizes_nothing(tmp_path) -> None:
    model = SimpleNamespace(info=SimpleNamespace(input_shape=(28, 28, 1)), torch_module=nn.Flatten().eval)
    with pytest.raises(NothingQuantized, match="no convolution or dense layer"):
        PyTorchAdapter().quantize(model, Request(Technique.parse("float16"), {}, None, tmp_path), lambda *_: None)


@pytest.mark.parametrize(
    "code", ["weight_only_wi4_g32", "binary", "ternary", "static_wi4_ai8", "static_wi8_ai16", "hybrid_wf16_ai8", MIXED_CODE]
)
def test_a_simulated_artefact_says_why_and_has_nothing_to_time(quantize, code) -> None:
    case = quantize(MODEL, code)
    assert case.quantized.execution is Execution.SIMULATED
    assert "float32" in case.quantized.execution_why
    assert {layer.runs_in for layer in case.quantized.layers()} == {"float32"}
    session = PyTorchAdapter().open(case.quantized.path, case.options, threads=1)
    with pytest.raises(Unsupported, match="simulation"):
        session.prepare(case.test[:1])


def test_16_bit_activations_are_symmetric_and_quieter_than_8_bit_ones(quantize) -> None:
    wide, narrow = (quantize(MODEL, f"static_wi8_ai{bits}", observer="minmax") for bits in (16, 8))
    params = wide.quantized.layers()[2].inputs[0].params
    assert (params.qmin, params.qmax, params.scheme, params.bits) == (-32767, 32767, Scheme.SYMMETRIC, 16)
    expected = quantize(MODEL, "float32").quantized.predict(wide.test)
    loss = [sqnr_db(expected, case.quantized.predict(case.test)) for case in (wide, narrow)]
    assert loss[0] > loss[1]


def test_mixed_precision_gives_each_layer_the_type_of_its_name_or_of_the_first_pattern_that_fits(quantize) -> None:
    layers = {layer.name: layer for layer in quantize(MODEL, MIXED_CODE).quantized.layers()}
    assert {name: layer.weight.dtype for name, layer in layers.items()} == {
        "conv1": "int8",
        "conv2": "float16",
        "block3_dw": "int4",
        "block3_pw": "int4",
        "conv4": "int2",
        "dense": "float32",
    }
    assert [layer.inputs[0].dtype for layer in layers.values()] == ["uint8"] * 5 + ["float32"]
    assert (layers["dense"].quantized, layers["dense"].why_not) == (False, KEPT_BY_CHOICE)


def test_mixed_precision_of_8_bits_is_the_8_bit_technique(quantize) -> None:
    mixed, static = (quantize(MODEL, code, weight_range="minmax") for code in ('mixed:{"*":8}', "static_wi8_ai8"))
    np.testing.assert_array_equal(mixed.quantized.predict(mixed.test), static.quantized.predict(static.test))
    assert mixed.quantized.execution is static.quantized.execution


def test_a_pattern_that_fits_no_layer_is_named(tmp_path) -> None:
    with pytest.raises(UnknownName, match="conv9"):
        run('mixed:{"conv9":8,"*":4}', tmp_path)


def test_mixed_precision_that_leaves_all_in_float_quantizes_nothing(tmp_path) -> None:
    with pytest.raises(NothingQuantized, match=KEPT_BY_CHOICE):
        run('mixed:{"*":"float"}', tmp_path)


def test_the_table_knows_mixed_precision_whatever_its_layers_are() -> None:
    cell = capability(Backend.PYTORCH, Technique.parse('mixed:{"any*":4}'))
    assert cell is MIXED[Backend.PYTORCH]
    assert cell.code == Mode.MIXED


def _input_range(quantize, **options) -> tuple[float, float, int]:
    params = quantize(MODEL, "static_wi8_ai8", **options).quantized.layers()[0].inputs[0].params
    scale, zero = float(params.scale[0]), int(params.zero_point[0])
    return (params.qmin - zero) * scale, (params.qmax - zero) * scale, zero


def test_percentiles_leave_the_outermost_values_out(quantize) -> None:
    samples = quantize(MODEL, "static_wi8_ai8").calibration
    batches = [samples[start : start + 32] for start in range(0, len(samples), 32)]
    low, high = np.mean([np.quantile(batch, (1e-4, 1 - 1e-4)) for batch in batches], axis=0)
    lowest, highest, _ = _input_range(quantize, observer="percentile")
    assert highest - lowest == pytest.approx(max(high, 0) - min(low, 0), rel=1e-5)


def test_a_moving_average_follows_the_minibatches(quantize) -> None:
    samples = quantize(MODEL, "static_wi8_ai8").calibration
    high = samples[:32].max()
    for start in range(32, len(samples), 32):
        high += 0.01 * (samples[start : start + 32].max() - high)
    lowest, highest, _ = _input_range(quantize, observer="moving_average")
    assert highest - lowest == pytest.approx(high - min(samples.min(), 0), rel=1e-4)


def test_symmetric_activations_have_their_zero_in_the_middle(quantize) -> None:
    assert _input_range(quantize, activations="symmetric")[2] == 128
    layers = quantize(MODEL, "static_wi8_ai8", activations="symmetric").quantized.layers()
    assert {tensor.params.scheme for layer in layers for tensor in layer.inputs} == {Scheme.SYMMETRIC}
