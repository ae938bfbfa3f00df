"""The ONNX form is the model: the same logits as the PyTorch form on real data, under the architecture's own names."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from models import datasets, zoo
from models.architecture import INPUT
from models.float_model import ZooModel

ROOT = Path(__file__).parents[2]
IDS = tuple(info.id for info in zoo.catalogue() if info.available and info.task == "image classification")
SAMPLES_COMPARED, PHOTOS_COMPARED = 3000, 8


@cache
def loaded(model_id: str) -> ZooModel:
    return zoo.load(model_id)


@cache
def form(model_id: str) -> onnx.ModelProto:
    return loaded(model_id).onnx_model()


@cache
def images(model_id: str) -> NDArray[np.float32]:
    """Test samples, channels first."""
    info = loaded(model_id).info
    samples = datasets.load(info.datasets[0]).split("test")
    x = info.preprocess(samples.x[: PHOTOS_COMPARED if samples.y is None else SAMPLES_COMPARED])
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def logits(model_id: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(form(model_id).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"input": x[i : i + 500]})[0] for i in range(0, len(x), 500)])


@pytest.mark.parametrize("model_id", IDS)
def test_the_form_agrees_with_pytorch_on_test_samples(model_id: str) -> None:
    import torch

    x, module = images(model_id), loaded(model_id).torch_module()
    with torch.inference_mode():
        expected = torch.cat([module(batch) for batch in torch.from_numpy(x).split(500)]).numpy()
    found = logits(model_id, x)
    assert found.shape == expected.shape == (len(x), loaded(model_id).info.classes)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("model_id", IDS)
def test_nodes_and_initializers_carry_the_architectures_names(model_id: str) -> None:
    model, graph = loaded(model_id), form(model_id).graph
    named = {node.name for node in graph.node}
    assert {node.name for node in model.architecture.nodes} <= named
    weighted = [node.name for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert tuple(weighted) == model.layer_names
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for name, array in model.weights.items():
        np.testing.assert_array_equal(stored[name], array)


@pytest.mark.parametrize("model_id", IDS)
def test_the_signature_is_one_float_image_batch_of_any_size(model_id: str) -> None:
    proto, (height, width, channels) = form(model_id), loaded(model_id).info.input_shape
    onnx.checker.check_model(proto, full_check=True)
    assert [opset.version >= 17 for opset in proto.opset_import] == [True]
    (source,), (output,) = proto.graph.input, proto.graph.output
    assert (source.name, output.name) == (INPUT, "logits")
    sizes = [dimension.dim_value for dimension in source.type.tensor_type.shape.dim]
    assert sizes == [0, channels, height, width]
    assert source.type.tensor_type.elem_type == output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    x = images(model_id)[:3]
    np.testing.assert_allclose(logits(model_id, x)[:1], logits(model_id, x[:1]), rtol=1e-4, atol=1e-4)


def test_building_the_form_imports_no_framework() -> None:
    code = (
        "import sys; from models import zoo; zoo.load('fashion-cnn').onnx_model();"
        "print(*({'torch', 'tensorflow', 'keras', 'onnxruntime'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == []
