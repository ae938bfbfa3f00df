"""Quantization-aware training for ONNX Runtime: PyTorch trains, and both of its models come here as Q/DQ files.

The weights are PyTorch's, bit for bit; what ONNX Runtime makes of them is measured like any other file. The control, trained
as long in float and quantized after, is exported the same way, so that both arms run in one runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto

from quantizers.adapter import Report, Request, Step, Trained
from quantizers.capabilities import resolve_options
from quantizers.onnxruntime.describe import describe
from quantizers.onnxruntime.fuse import biases_as_integers, round_before_additions
from quantizers.onnxruntime.model import OnnxModel
from quantizers.onnxruntime.prepare import save
from quantizers.onnxruntime.reader import Tensor, WeightedOp
from quantizers.schema import Backend, QuantizedLayer

if TYPE_CHECKING:
    from models.float_model import FloatModel
    from quantizers.pytorch.model import TorchModel

_KERNEL_BITS = 8
"""The width of weights that the runtime has integer convolutions for."""


def quantization_aware(
    model: FloatModel, request: Request, path: Path, float_ops: Mapping[str, WeightedOp], folder: Path, report: Report
) -> OnnxModel:
    """Trains in PyTorch and writes the result to `path`, and its control beside it.

    Args:
        float_ops: layers of the float model; the weights that the stored ones are compared with are those after training.
        folder: for files that nobody keeps.

    Raises:
        BadData: there is nothing to train on.
        Unsupported: the model has no form that can be trained, or torch cannot export it.
    """
    from quantizers.pytorch.adapter import PyTorchAdapter
    from quantizers.pytorch.model import TorchModel

    options = resolve_options(Backend.PYTORCH, request.technique, request.options)
    asked = replace(request, options=options, workdir=folder / "pytorch", shared=None)
    asked.workdir.mkdir()
    trained = PyTorchAdapter().quantize(model, asked, lambda done, words: report(0.9 * done, words))
    assert isinstance(trained, TorchModel)
    assert trained.training is not None
    control = trained.training.control
    assert isinstance(control, TorchModel)
    ours = _exported(control, request, path.with_name(f"control-{path.name}"), float_ops, folder, None)
    training = Trained(trained.training.history, ours, trained.training.seconds)
    return _exported(trained, request, path, float_ops, folder, training)


def _exported(
    trained: TorchModel,
    request: Request,
    path: Path,
    float_ops: Mapping[str, WeightedOp],
    folder: Path,
    training: Trained | None,
) -> OnnxModel:
    from quantizers.pytorch.export_onnx import to_qdq_onnx

    to_qdq_onnx(trained, path)
    exported = onnx.load(path)
    _forget_origins(exported)
    steps = [Step("Training", "In PyTorch, exported with the integers it ended with.")]
    if request.technique.weight_bits == _KERNEL_BITS and request.calibration is not None:
        steps += _sums(round_before_additions(exported, request.calibration))
        biases_as_integers(exported)
    save(exported, path)
    layers = {layer.name: layer for layer in trained.layers()}
    records = describe(path, {name: _after_training(op, layers[name]) for name, op in float_ops.items()}, request, folder)
    return OnnxModel(path, records, request.technique, steps, training)


def _sums(convolutions: list[str]) -> list[Step]:
    if not convolutions:
        return []
    words = f"Before residual additions the outputs of {', '.join(convolutions)} are rounded to uint8, as training did not"
    return [Step("Additions", f"{words}: ONNX Runtime would compute them in float.")]


def _forget_origins(model: ModelProto) -> None:
    """Deletes what torch's exporter writes beside the model, which can be larger than it: source lines and stack traces."""
    graph = model.graph
    for entry in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        for field in ("metadata_props", "doc_string"):
            entry.ClearField(field)


def _after_training(op: WeightedOp, layer: QuantizedLayer) -> WeightedOp:
    """The layer with its float weights as training left them, output channels first."""
    assert layer.weight.reference is not None
    weight = Tensor(op.weight.name, data=np.asarray(layer.weight.reference, np.float32))
    bias = op.bias if layer.bias is None or layer.bias.reference is None else Tensor("bias", data=layer.bias.reference)
    return replace(op, weight=weight, bias=bias, rows_first=False)
