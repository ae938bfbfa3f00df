"""Q/DQ ONNX files: ONNX Runtime computes from them what the PyTorch artefact computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from pt2_reader import sqnr_db

from quantizers.errors import Unsupported
from quantizers.pytorch.export_onnx import to_qdq_onnx

pytestmark = pytest.mark.adapter

MIXED = 'mixed:{"conv1":4,"conv2":16,"dense":"float","*":8}'
CASES = [
    ("fashion-resnet", "static_wi8_ai8"),
    ("fashion-cnn", "static_wi4_ai8"),
    ("mnist-mlp", "static_wi8_ai16"),
    ("fashion-cnn", "weight_only_wi8"),
    ("fashion-cnn", MIXED),
]


@pytest.fixture(scope="module")
def exported(quantize, tmp_path_factory):
    def run(model, code):
        case = quantize(model, code)
        path = tmp_path_factory.mktemp("onnx") / "model.onnx"
        to_qdq_onnx(case.quantized, path)
        return case, path

    return run


def logits_of(path, batch, level) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(np.moveaxis(batch, -1, 1))})[0]


@pytest.mark.parametrize(("model", "code"), CASES)
def test_onnx_runtime_predicts_what_the_artefact_predicts(exported, model, code) -> None:
    case, path = exported(model, code)
    expected = case.quantized.predict(case.test)
    as_written = logits_of(path, case.test, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    assert sqnr_db(expected, as_written) > 35  # a sum in another order turns a tie into the next code
    fused = logits_of(path, case.test, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    assert sqnr_db(expected, fused) > 35
    assert (fused.argmax(1) == expected.argmax(1)).mean() > 0.99


def test_the_file_holds_the_codes_and_scales_of_the_artefact_under_the_layers_names(exported) -> None:
    case, path = exported("fashion-cnn", MIXED)
    proto = onnx.load(path)
    stored = {one.name: one for one in proto.graph.initializer}
    named = [node.name for node in proto.graph.node if node.op_type in ("Conv", "Gemm")]
    assert named == [layer.name for layer in case.quantized.layers()]
    for layer in case.quantized.layers():
        if layer.weight.params is None:
            continue
        codes = stored[f"{layer.name}.weight"]
        assert codes.data_type == (TensorProto.INT4 if layer.weight.dtype == "int4" else TensorProto.INT8)
        np.testing.assert_array_equal(numpy_helper.to_array(codes).astype(int), layer.weight.codes)
        scale = numpy_helper.to_array(stored[f"{layer.name}.weight_scale"])
        np.testing.assert_array_equal(scale, layer.weight.params.scale.astype(np.float32))


@pytest.mark.parametrize(("code", "words"), [("dynamic_wi8", "while running"), ("weight_only_wi4_g32", "groups of 32")])
def test_what_has_no_qdq_form_is_refused_with_the_reason(quantize, tmp_path, code, words) -> None:
    with pytest.raises(Unsupported, match=words):
        to_qdq_onnx(quantize("fashion-cnn", code).quantized, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
