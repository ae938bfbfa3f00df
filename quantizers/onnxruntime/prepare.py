"""What comes before quantizing: the runtime's own preprocessing.

Preprocessing folds batch norms into convolutions and infers shapes. Its symbolic shape inference is left out: it fails on many
real models, and the plain one is enough for what is quantized here.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#pre-processing
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import quant_pre_process

from quantizers.errors import ConversionFailed
from quantizers.onnxruntime.reader import read
from quantizers.onnxruntime.session import OnnxSession


def prepare(model: ModelProto, path: Path) -> ModelProto:
    """The optimized float model, which is also left at `path`.

    Raises:
        ConversionFailed: there is no convolution and no dense layer, or a weight holds NaN or infinity.
    """
    quant_pre_process(model, str(path), skip_symbolic_shape=True)
    OnnxSession(path)  # Preprocessing only logs what keeps the runtime from loading a model, and goes on without it.
    prepared = onnx.load(path)
    ops = read(prepared)
    if not ops:
        raise ConversionFailed("The model has no convolution and no dense layer with a constant weight.")
    for op in ops:
        constants = [tensor.data for tensor in (op.weight, op.bias) if tensor is not None and tensor.data is not None]
        if not all(np.isfinite(values).all() for values in constants):
            raise ConversionFailed(f"The weights of {op.name} hold NaN or infinity.", "Train the model again.")
    return prepared


def save(model: ModelProto, path: Path) -> None:
    """Writes the artefact without what only the tools needed: intermediate shapes and opsets that no operation uses."""
    del model.graph.value_info[:]
    used = {node.domain for node in model.graph.node}
    unused = [opset for opset in model.opset_import if opset.domain not in used | {""}]
    for opset in unused:
        model.opset_import.remove(opset)
    onnx.checker.check_model(model)
    onnx.save(model, path)
