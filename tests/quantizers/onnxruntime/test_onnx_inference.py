"""Predictions, activations, sessions and int8 coverage against plain sessions of the runtime and against PyTorch."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

from models import catalogue, datasets
from models.architecture import BatchNorm, Relu
from quantizers.adapter import Batch, Request
from quantizers.capabilities import resolve_options
from quantizers.numerics import dequantize, tensor_error
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
from quantizers.onnxruntime.blocks import has_integer_kernel
from quantizers.schema import Backend, Execution, Technique

pytestmark = pytest.mark.adapter

ROOT = Path(__file__).parents[3]
MODELS = ["mnist-mlp", "mnist-cnn", "fashion-cnn", "fashion-resnet"]
CODES: dict[str, tuple[float, float]] = {  # the least SQNR (dB) of the logits, the most accuracy (0 to 1) that may be lost
    "float32": (90, 0.0),
    "float16": (55, 0.003),
    "dynamic_wi8": (25, 0.012),
    "dynamic_wi4_g32": (10, 0.06),
    "static_wi8_ai8": (25, 0.012),
    "static_wi8_ai16": (25, 0.012),
    "static_wi4_ai8": (10, 0.06),
    "weight_only_wi8": (35, 0.006),
    "weight_only_wi4": (8, 0.08),
    "weight_only_wi8_g32": (35, 0.006),
    "weight_only_wi4_g32": (10, 0.06),
    "hybrid_wf16_ai8": (25, 0.012),
    'mixed:{"*":8}': (25, 0.012),
}
every_model = pytest.mark.parametrize("model_id", MODELS)
every_code = pytest.mark.parametrize("code", CODES)


def plain_loop(path: Path, batch: Batch) -> NDArray[np.float32]:
    """Logits one sample at a time, with the runtime's defaults."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (source.name for source in session.get_inputs())
    return np.concatenate([session.run(None, {name: np.transpose(sample[None], (0, 3, 1, 2))})[0] for sample in batch])


@every_model
@every_code
def test_predict_equals_a_plain_loop_over_the_runtime(quantized, subject, model_id, code):
    model, x = quantized(model_id, code), subject(model_id).x[:130]
    logits = model.predict(x)
    assert logits.dtype == np.float32
    expected = plain_loop(model.path, x)
    params = model.layers()[-1].output.params
    one_code = 0.0 if params is None else params.scale[0]  # float sums of another batch size may round to the next one
    assert np.abs(logits - expected).max() <= max(1e-5 * np.abs(expected).max(), 1.01 * one_code)
    assert np.mean(np.isclose(logits, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())) > 0.95


@every_model
@every_code
def test_accuracy_is_close_to_that_of_pytorch(quantized, subject, model_id, code):
    import torch

    case, (floor_db, most_lost) = subject(model_id), CODES[code]
    x = case.x[:1000]
    with torch.inference_mode():
        float_logits = case.model.torch_module()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    logits = quantized(model_id, code).predict(x)
    assert np.mean(float_logits.argmax(1) == case.y) - np.mean(logits.argmax(1) == case.y) <= most_lost
    assert tensor_error(float_logits, logits).sqnr_db > floor_db


@every_model
@every_code
def test_activations_are_of_every_layer_and_end_in_the_logits(quantized, subject, model_id, code):
    model, x = quantized(model_id, code), subject(model_id).x[:110]
    outputs = model.activations(x)
    names = subject(model_id).model.layer_names
    assert tuple(outputs) == names
    assert all(values.dtype == np.float32 and len(values) == 110 for values in outputs.values())
    logits = model.predict(x)
    if model.layers()[-1].output.params is None:  # more outputs, other fusions: float sums may round otherwise
        np.testing.assert_allclose(outputs[names[-1]], logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    else:
        np.testing.assert_array_equal(outputs[names[-1]], logits)
    reference = quantized(model_id, "float32").activations(x)
    for name, values in outputs.items():
        assert values.shape == reference[name].shape
        error = tensor_error(reference[name], values)
        assert error.exact or error.sqnr_db > (8 if "wi4" in code else 20)


@every_model
def test_float_activations_are_those_of_pytorch_after_the_fused_activation(quantized, subject, model_id):
    import torch

    model, x = subject(model_id).model, subject(model_id).x[:30]
    module, seen = model.torch_module(), {}
    for name, child in module.named_children():
        child.register_forward_hook(lambda _m, _i, output, name=name: seen.__setitem__(name, output.numpy()))
    with torch.inference_mode():
        module(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    fused_behind = {node.inputs[0]: node.name for node in model.architecture.nodes if isinstance(node, BatchNorm | Relu)}
    for name, values in quantized(model_id, "float32").activations(x).items():
        last = name
        while last in fused_behind:
            last = fused_behind[last]
        expected = np.moveaxis(seen[last], 1, -1)
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


class AllSamples(CalibrationDataReader):
    def __init__(self, x: Batch) -> None:
        self.feeds = iter([{"input": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.feeds, None)


@pytest.mark.parametrize("model_id", ["fashion-cnn", "fashion-resnet"])
def test_streamed_calibration_gives_the_file_that_the_tool_makes_in_one_go(quantized, subject, model_id, tmp_path):
    case = subject(model_id)
    quant_pre_process(case.model.onnx_model(), str(tmp_path / "ready.onnx"), skip_symbolic_shape=True)
    quantize_static(
        tmp_path / "ready.onnx",
        tmp_path / "whole.onnx",
        AllSamples(case.calibration),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    whole, streamed = onnx.load(tmp_path / "whole.onnx"), onnx.load(quantized(model_id, "static_wi8_ai8").path)
    constants = [{t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer} for model in (whole, streamed)]
    assert constants[0].keys() == constants[1].keys()
    for name, values in constants[0].items():
        np.testing.assert_allclose(constants[1][name], values, rtol=1e-6, err_msg=name)
    predicted = quantized(model_id, "static_wi8_ai8").predict(case.x[:50])
    np.testing.assert_array_equal(plain_loop(tmp_path / "whole.onnx", case.x[:50]), predicted)


def activation_scales(model: Any) -> NDArray[np.float64]:
    return np.array([layer.inputs[0].params.scale[0] for layer in model.layers()])


@pytest.mark.parametrize("calibrator", ["percentile", "entropy", "moving_average"])
@pytest.mark.parametrize("model_id", ["mnist-cnn", "fashion-resnet"])
def test_the_other_calibrators_clip_outliers_and_keep_the_accuracy(quantized, subject, model_id, calibrator):
    case = subject(model_id)
    widest = quantized(model_id, "static_wi8_ai8")
    clipped = quantized(model_id, "static_wi8_ai8", calibrator=calibrator)
    assert (activation_scales(clipped) <= activation_scales(widest) * (1 + 1e-6)).all()
    assert (activation_scales(clipped) < activation_scales(widest)).any()
    accuracy = [np.mean(model.predict(case.x).argmax(1) == case.y) for model in (widest, clipped)]
    assert accuracy[0] - accuracy[1] <= 0.02


@pytest.mark.parametrize("model_id", ["fashion-cnn", "fashion-resnet"])
def test_both_formats_hold_the_same_numbers(quantized, subject, model_id):
    qdq, operators = (quantized(model_id, "static_wi8_ai8", format=name) for name in ("qdq", "qoperator"))
    for one, other in zip(qdq.layers(), operators.layers(), strict=True):
        np.testing.assert_array_equal(one.weight.codes, other.weight.codes)
        np.testing.assert_array_equal(one.weight.params.scale, other.weight.params.scale)
        assert one.inputs[0].params.zero_point == other.inputs[0].params.zero_point
        assert one.bias.params.scale == pytest.approx(other.bias.params.scale, rel=1e-6)
    kinds = Counter(layer.op for layer in operators.layers())
    assert set(kinds) == {"QLinearConv", "QGemm"}
    step = qdq.layers()[-1].output.params.scale[0]
    x = subject(model_id).x[:200]
    assert np.abs(qdq.predict(x) - operators.predict(x)).max() <= 2.001 * step


INTEGER_KERNELS = {"QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul"}


def computes_in_integers(node: onnx.NodeProto) -> bool:
    """By the kind of operation; a MatMulNBits that may round its activations does so where the processor has the kernel."""
    level = {entry.name: entry.i for entry in node.attribute}.get("accuracy_level")
    return node.op_type in INTEGER_KERNELS or (level == 4 and has_integer_kernel(4, 32))


@pytest.mark.parametrize(
    ("code", "options"),
    [
        *((code, {}) for code in CODES),
        ("static_wi8_ai8", {"types": "s8s8"}),
        ("static_wi8_ai8", {"format": "qoperator"}),
        ("dynamic_wi8", {"op_types": "dense"}),
        ("static_wi8_ai8", {"op_types": "dense"}),
        ("static_wi8_ai8", {"keep_float": ("stem", "block3_shortcut")}),
    ],
)
def test_layers_said_to_run_in_int8_are_as_many_as_the_integer_kernels_of_the_optimized_graph(
    quantized, tmp_path, code, options
):
    model = quantized("fashion-resnet", code, **options)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(model.path), settings, providers=["CPUExecutionProvider"])
    kernels = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node if computes_in_integers(node)]
    in_int8 = [layer for layer in model.layers() if layer.runs_in == "int8"]
    assert len(in_int8) == len(kernels)
    for layer in model.layers():
        assert (layer.why_not is None) == (layer in in_int8)
        assert layer.quantized == (layer.weight.dtype != "float32")


def test_static_8_bits_run_in_int8_and_layers_kept_float_do_not(quantized):
    assert {layer.runs_in for layer in quantized("fashion-resnet", "static_wi8_ai8").layers()} == {"int8"}
    kept = quantized("fashion-resnet", "static_wi8_ai8", keep_float=("stem", "block3_shortcut")).layers()
    assert {layer.name for layer in kept if not layer.quantized} == {"stem", "block3_shortcut"}
    assert {layer.name for layer in kept if layer.runs_in == "float32"} == {"stem", "block3_shortcut"}
    assert {layer.why_not for layer in kept} == {None, "Kept in float, as asked."}


@pytest.mark.parametrize(
    "code", ["float16", "dynamic_wi8", "weight_only_wi4_g32", "binary", "hybrid_wf16_ai8", 'mixed:{"*":4}']
)
def test_every_technique_keeps_layers_float(quantized, subject, code):
    model = quantized("mnist-cnn", code, keep_float=("dense",))
    assert [(layer.name, layer.weight.dtype == "float32") for layer in model.layers()] == [("conv1", False), ("dense", True)]
    assert np.isfinite(model.predict(subject("mnist-cnn").x[:20])).all()


def test_dense_layers_round_their_activations_block_by_block_where_the_processor_can(quantized):
    """Against the same product by hand: of float activations, and of ones rounded to −127…127, 32 of a row on one scale."""
    model = quantized("mnist-mlp", "dynamic_wi4_g32", scheme="affine")
    layer, x = model.layers()[0], np.random.default_rng(0).standard_normal((50, 28, 28, 1)).astype(np.float32)
    weight = dequantize(layer.weight.codes, layer.weight.params)
    blocks = np.pad(x.reshape(50, 784).astype(np.float64), ((0, 0), (0, 16))).reshape(50, -1, 32)
    step = np.abs(blocks).max(axis=2, keepdims=True) / 127
    read = {"float32": blocks, "int8": np.rint(blocks / step) * step}
    computed = model.activations(x)["dense1"]
    by_hand = {kind: values.reshape(50, -1)[:, :784] @ weight.T + layer.bias.codes for kind, values in read.items()}
    errors = {kind: tensor_error(np.maximum(values, 0), computed).sqnr_db for kind, values in by_hand.items()}
    assert errors.pop(layer.runs_in) > 100
    assert all(40 < error < 60 for error in errors.values())
    assert layer.inputs[0].dtype == "int8 (dynamic)"


def test_blocks_leave_convolutions_in_float_and_say_so(quantized):
    conv, dense = quantized("mnist-cnn", "dynamic_wi4_g32").layers()
    assert dense.op == "MatMulNBits"
    assert (conv.quantized, conv.why_not) == (
        False,
        "MatMulNBits, which rounds activations as it runs, takes the place of dense layers alone.",
    )


@pytest.mark.parametrize("code", ["binary", "ternary", "hybrid_wf16_ai8"])
def test_what_no_kernel_computes_is_called_simulated(quantized, code):
    model = quantized("fashion-cnn", code)
    assert model.execution is Execution.SIMULATED
    assert model.execution_why.startswith("ONNX Runtime has no")
    assert {layer.runs_in for layer in model.layers()} == {"float32"}


@pytest.mark.parametrize("code", ["binary", "ternary", "weight_only_wi2", "weight_only_wi2_g32", 'mixed:{"*":2}'])
def test_few_bits_compute_what_their_codes_say(quantized, subject, code):
    """Accuracy says little here, so the float model is given the dequantized weights and must agree."""
    from dataclasses import replace

    model, case = quantized("mnist-cnn", code), subject("mnist-cnn")
    real = {layer.name: dequantize(layer.weight.codes, layer.weight.params) for layer in model.layers()}
    weights = {**case.model.weights}
    for name, values in real.items():
        weights[f"{name}.weight"] = values.reshape(weights[f"{name}.weight"].shape).astype(np.float32)
    import torch

    with torch.inference_mode():
        x = torch.from_numpy(case.x[:100].transpose(0, 3, 1, 2).copy())
        expected = replace(case.model, weights=weights).torch_module()(x).numpy()
    error = tensor_error(expected, model.predict(case.x[:100]))
    assert error.sqnr_db > (25 if code.startswith("mixed") else 90)


def test_opening_an_artefact_imports_no_framework(quantized):
    script = """
import json, sys
from pathlib import Path
import numpy as np
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
adapter = OnnxRuntimeAdapter()
light = "onnxruntime" not in sys.modules
session = adapter.open(Path(sys.argv[1]), {}, 1)
output = session.run(session.prepare(np.zeros((1, 28, 28, 1), np.float32)))
heavy = sorted({"tensorflow", "keras", "torch", "onnx"} & set(sys.modules))
said = {"light": light, "shape": output.shape, "versions": dict(adapter.versions()), "heavy": heavy, "runtime": adapter.runtime}
print(json.dumps(said | {"imported": adapter.runtime in sys.modules}))
"""
    path = quantized("fashion-cnn", "static_wi8_ai8").path
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["light"]
    assert said["heavy"] == []
    assert said["imported"]
    assert said["shape"] == [1, 10]
    assert said["versions"] == {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}


def test_quantizing_leaves_stdout_to_its_caller(tmp_path):
    script = """
import json, sys
from pathlib import Path
from models import datasets, zoo
from quantizers.adapter import Request
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
from quantizers.schema import Technique
model = zoo.load("mnist-mlp")
x = model.info.preprocess(datasets.load("mnist-5k").split("calibration").x[:40])
request = Request(Technique.parse("static_wi8_ai8"), {"calibrator": "percentile"}, x, Path(sys.argv[1]))
quantized = OnnxRuntimeAdapter().quantize(model, request, lambda fraction, what: None)
print(json.dumps([layer.name for layer in quantized.layers()]))
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["dense1", "dense2"]
    assert "histogram" in done.stderr


def test_threads_reach_the_runtime(quantized):
    path = quantized("mnist-cnn", "float32").path
    for threads in (1, 2):
        session = OnnxRuntimeAdapter().open(path, {}, threads)
        options = session._session.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)


def test_a_transformer_keeps_its_meaning_where_attention_stays_in_float(tmp_path):
    """What a mask adds to hide padding would be the range of every score, at 16 bits too; at 8 bits it takes more float."""
    model, data = catalogue.load("minilm-l6"), datasets.load("sentences")
    samples, x = data.split("calibration").x[:32], data.split("test").x[:16]

    def quantized(code, **options):
        (folder := tmp_path / f"{code}{len(options)}").mkdir()
        technique = Technique.parse(code)
        request = Request(technique, resolve_options(Backend.ONNXRUNTIME, technique, options), samples, folder, shared=tmp_path)
        return OnnxRuntimeAdapter().quantize(model, request, lambda fraction, words: None)

    expected = quantized("float32").predict(x)
    wide = quantized("static_wi8_ai16")
    assert tensor_error(expected, wide.predict(x)).sqnr_db > 20
    assert "6 softmax operations" in " ".join(step.outcome for step in wide.steps)
    dense_only = quantized("static_wi8_ai8", op_types="dense")
    assert tensor_error(expected, dense_only.predict(x)).sqnr_db > 12
    assert {layer.runs_in for layer in dense_only.layers()} == {"int8"}
