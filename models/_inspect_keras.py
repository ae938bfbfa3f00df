"""Looks into a .keras or .h5 with Keras' safe mode, which runs nothing of the file's own; runs in the limited process only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from models import keras_legacy
from models.float_model import Kind
from models.inspect_process import Request
from models.inspection import Converted, Inspection, Port
from models.keras_file import load
from quantizers.errors import BadModel
from quantizers.schema import Backend
from quantizers.tflite.convert import kernels

_CONVERTED = "It was written by Keras 2 with what Keras 3 cannot read, and was converted to a float .tflite by tf_keras."


def inspect(path: Path, request: Request) -> Inspection | Converted:
    """Inputs, outputs and layers of the model; of one that only Keras 2 reads, those of the .tflite that is made of it.

    Raises:
        BadModel: Keras cannot read it, or it holds code, which safe mode refuses.
        Unsupported: tf_keras would read it, and is not installed.
    """
    try:
        network = load(path)
    except Exception as error:  # a broken or unsafe file makes Keras raise whatever it likes
        config = _legacy(path)
        if config is not None:
            return _converted(keras_legacy.to_tflite(path, config), request)
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


def _legacy(path: Path) -> Mapping[str, Any] | None:
    """As `keras_legacy.configuration`; None as well where the file is too damaged to tell."""
    try:
        return keras_legacy.configuration(path)
    except Exception:  # h5py, zipfile and json have no common base
        return None


def _converted(path: Path, request: Request) -> Converted:
    from models import _inspect_tflite

    found = _inspect_tflite.inspect(path, request)
    return Converted(path, Kind.TFLITE, replace(found, notes=(_CONVERTED, *found.notes)))


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
        return keras_legacy.HOLDS_CODE
    return "It may be damaged."
