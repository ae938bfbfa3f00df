"""Looks into a .keras or .h5 with Keras' safe mode, which runs nothing of the file's own; runs in the limited process only."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from models.inspect_process import Request
from models.inspection import Inspection, Port
from models.keras_file import load
from quantizers.errors import BadModel
from quantizers.schema import Backend
from quantizers.tflite.convert import kernels

_LEGACY = "It was written by Keras 2, whose layers Keras 3 reads only in part: load it with tf_keras and save it as .keras."


def inspect(path: Path, request: Request) -> Inspection:
    """Inputs, outputs and layers of the model.

    Raises:
        BadModel: Keras cannot read it, or it holds code, which safe mode refuses.
    """
    del request
    try:
        network = load(path)
    except Exception as error:  # a broken or unsafe file makes Keras raise whatever it likes
        words = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BadModel(f"Keras cannot read the file: {words[:300]}", _hint(str(error))) from error
    inputs, outputs = (tuple(_port(tensor) for tensor in tensors) for tensors in (network.inputs, network.outputs))
    layers = tuple(kernels(network))
    why_not = _why_not(network, layers)
    return Inspection(
        inputs=inputs,
        outputs=outputs,
        parameters=int(network.count_params()),
        layers=layers,
        backends={} if why_not is None else {Backend.TFLITE: why_not},
        batched=True,
        output_size=_size(outputs),
        facts={"layers": dict(Counter(type(layer).__name__ for layer in network.layers).most_common()), "name": network.name},
    )


def _port(tensor: Any) -> Port:
    return Port(tensor.name, str(tensor.dtype), tuple(None if size is None else int(size) for size in tensor.shape))


def _size(outputs: tuple[Port, ...]) -> int | None:
    """Values of all outputs of one sample; None where an axis other than the batch is free."""
    shapes = [(port.shape or ())[1:] for port in outputs]
    if any(not isinstance(size, int) for shape in shapes for size in shape):
        return None
    return sum(math.prod(int(size or 0) for size in shape) for shape in shapes)


def _why_not(network: Any, layers: tuple[str, ...]) -> str | None:
    if len(network.inputs) != 1:
        return f"The model takes {len(network.inputs)} inputs; calibration here knows models of one."
    recurrent = [
        layer.name for layer in network.layers if type(layer).__name__ in ("LSTM", "GRU", "SimpleRNN", "Bidirectional")
    ]
    if recurrent:
        return f"{', '.join(recurrent)}: TFLite's converter keeps recurrent layers as control flow, which is not quantized."
    return None if layers else "The model has no convolution and no dense layer with weights of its own."


def _hint(words: str) -> str:
    if "lambda" in words.lower() or "safe_mode" in words:
        return "It holds code of its own, which is never run here."
    legacy = "groups" in words or "Unrecognized keyword" in words or "batch_shape" in words or "deserializ" in words.lower()
    return _LEGACY if legacy else "It may be damaged."
