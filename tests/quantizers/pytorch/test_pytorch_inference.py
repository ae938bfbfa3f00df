"""What the artefacts compute: predictions, activations, and the int8 kernels that latency times."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pt2_reader
import pytest
import torch
from pt2_reader import sqnr_db

from quantizers.errors import Unsupported
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.pytorch.annotate import DENSE_ONLY
from quantizers.schema import Execution

pytestmark = pytest.mark.adapter

MODELS = ("mnist-mlp", "mnist-cnn", "fashion-cnn", "fashion-resnet")
TECHNIQUES = ("float32", "dynamic_wi8", "static_wi8_ai8", "weight_only_wi8")
AGREEMENT_DB = 40.0
"""Lowered kernels may round a tie to the neighbouring code; 40 dB is an error of 1 % of the logits' size."""

needs_vnni = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_vnni"), reason="this CPU has no AVX512-VNNI instructions"
)


def _nchw(batch: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("code", TECHNIQUES)
def test_predictions_are_those_of_a_plain_loop_over_the_file(quantize, model, code) -> None:
    case = quantize(model, code)
    program = pt2_reader.load(case.quantized.path).module()
    step = 1 if code == "dynamic_wi8" else 256
    with torch.no_grad():
        expected = [program(_nchw(case.test[i : i + step])).numpy() for i in range(0, len(case.test), step)]
    np.testing.assert_array_equal(case.quantized.predict(case.test), np.concatenate(expected))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("lowered", [True, False])
def test_the_float_artefact_is_the_module(quantize, model, lowered) -> None:
    case = quantize(model, "float32", lowered=lowered)
    with torch.no_grad():
        expected = case.float_model.torch_module()(_nchw(case.test)).numpy()
    assert sqnr_db(expected, case.quantized.predict(case.test)) > 100


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("code", TECHNIQUES[1:])
def test_quantized_models_stay_close_to_the_float_model(quantize, model, code) -> None:
    expected = quantize(model, "float32").quantized.predict(quantize(model, code).test)
    logits = quantize(model, code).quantized.predict(quantize(model, code).test)
    assert (logits.argmax(1) == expected.argmax(1)).mean() >= 0.97
    assert 20 < sqnr_db(expected, logits) < 100


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("code", "options"),
    [("float32", {}), ("float32", {"lowered": False}), ("dynamic_wi8", {}), ("static_wi8_ai8", {})],
)
@pytest.mark.parametrize("batch", [1, 32])
def test_a_session_agrees_with_the_artefact(quantize, model, code, options, batch) -> None:
    case = quantize(model, code, **options)
    session = PyTorchAdapter().open(case.quantized.path, case.options, threads=1)
    starts = range(0, 64, batch)
    logits = np.concatenate([session.run(session.prepare(case.test[i : i + batch])) for i in starts])
    program = pt2_reader.load(case.quantized.path).module()
    with torch.no_grad():
        expected = np.concatenate([program(_nchw(case.test[i : i + batch])).numpy() for i in starts])
    assert sqnr_db(expected, logits) > AGREEMENT_DB
    assert (logits.argmax(1) == expected.argmax(1)).all()


@needs_vnni
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("code", "options"), [("static_wi8_ai8", {}), ("dynamic_wi8", {})])
def test_the_layers_said_to_run_in_int8_are_the_int8_kernels_that_ran(quantize, model, code, options) -> None:
    case = quantize(model, code, **options)
    assert case.quantized.execution is Execution.NATIVE
    claimed = [layer for layer in case.quantized.layers() if layer.runs_in == "int8"]
    dense = [layer for layer in case.quantized.layers() if layer.op == "aten.linear"]
    assert len(claimed) == (len(dense) if code == "dynamic_wi8" else len(case.float_model.layer_names))
    session = PyTorchAdapter().open(case.quantized.path, case.options, threads=1)
    prepared = session.prepare(case.test[:1])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        session.run(prepared)
    names = [event.name for event in profile.events()]
    assert sum(name.startswith(("onednn::qconv", "onednn::qlinear")) for name in names) == len(claimed)


@needs_vnni
def test_one_scale_per_tensor_runs_in_int8_too(quantize) -> None:
    quantized = quantize("fashion-cnn", "static_wi8_ai8", per_channel=False).quantized
    assert [layer.runs_in for layer in quantized.layers()] == ["int8"] * 6


def test_dynamic_leaves_convolutions_in_float_and_says_why(quantize) -> None:
    *convolutions, dense = quantize("fashion-cnn", "dynamic_wi8").quantized.layers()
    assert dense.quantized
    assert dense.inputs[0].dtype == "uint8 (dynamic)"
    for layer in convolutions:
        assert (layer.quantized, layer.why_not, layer.weight.dtype) == (False, DENSE_ONLY, "float32")


def test_a_dynamic_model_gives_a_sample_the_same_logits_in_any_batch(quantize) -> None:
    case = quantize("mnist-mlp", "dynamic_wi8")
    np.testing.assert_array_equal(case.quantized.predict(case.test[:9])[4:5], case.quantized.predict(case.test[4:5]))


def test_weight_only_is_simulated_and_has_nothing_to_time(quantize) -> None:
    case = quantize("fashion-cnn", "weight_only_wi8")
    assert case.quantized.execution is Execution.SIMULATED
    assert "float32" in case.quantized.execution_why
    assert {layer.runs_in for layer in case.quantized.layers()} == {"float32"}
    session = PyTorchAdapter().open(case.quantized.path, case.options, threads=1)
    with pytest.raises(Unsupported, match="simulation"):
        session.prepare(case.test[:1])


def _outputs_by_hooks(model, batch: np.ndarray) -> dict[str, np.ndarray]:
    """What each layer hands on in the zoo's own module: after its batch norm and its activation function."""
    module, seen, found = model.torch_module(), {}, {}
    for name, child in module.named_children():
        child.register_forward_hook(lambda _module, _inputs, output, name=name: seen.update({name: output}))
    with torch.no_grad():
        module(_nchw(batch))
    for layer in model.layer_names:
        last = layer
        for node in model.architecture.nodes:
            if node.inputs == (last,) and type(node).__name__ in ("BatchNorm", "Relu", "Relu6"):
                last = node.name
        found[layer] = np.moveaxis(seen[last].numpy(), 1, -1)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_float_activations_are_what_the_modules_hand_on(quantize, model) -> None:
    case = quantize(model, "float32")
    expected = _outputs_by_hooks(case.float_model, case.test[:20])
    for lowered in (True, False):
        activations = quantize(model, "float32", lowered=lowered).quantized.activations(case.test[:20])
        assert set(activations) == set(case.float_model.layer_names)
        for name, output in activations.items():
            assert output.shape == expected[name].shape
            assert sqnr_db(expected[name], output) > 100


@pytest.mark.parametrize("code", TECHNIQUES[1:])
def test_quantized_activations_resemble_the_float_ones_layer_by_layer(quantize, code) -> None:
    case = quantize("fashion-resnet", code)
    expected = quantize("fashion-resnet", "float32").quantized.activations(case.test[:20])
    activations = case.quantized.activations(case.test[:20])
    assert set(activations) == set(expected)
    assert min(sqnr_db(expected[name], activations[name]) for name in expected) > 15
    last = case.float_model.layer_names[-1]
    np.testing.assert_array_equal(activations[last], case.quantized.predict(case.test[:20]))


def test_an_artefact_opens_in_a_process_that_has_done_nothing_else(quantize) -> None:
    case = quantize("mnist-cnn", "static_wi8_ai8")
    script = (
        "import sys, numpy as np; from pathlib import Path; from quantizers.pytorch.adapter import PyTorchAdapter;"
        "assert 'torch' not in sys.modules;"
        f"session = PyTorchAdapter().open(Path({str(case.quantized.path)!r}), {{}}, 1);"
        "print(session.run(session.prepare(np.zeros((1, 28, 28, 1), np.float32))).shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 10)"
