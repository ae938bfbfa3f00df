"""The plain float conversion of a model: what quantized weights are compared with, and what many techniques start from.

Only this and the techniques of TensorFlow's own converter need TensorFlow, which takes seconds to import: the other trials of
an experiment find the file and the kernels among what they share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantizers.adapter import Report
from quantizers.errors import Unsupported
from quantizers.schema import Mode, Technique
from quantizers.shared import once
from quantizers.tflite import convert
from quantizers.tflite.file import modernised, read_file
from quantizers.tflite.model import BATCH

if TYPE_CHECKING:
    import keras

    from models.float_model import FloatModel

_FILE, _KERNELS, _SHAPE = "model.tflite", "kernels.npz", "shape.json"


@dataclass(frozen=True, eq=False)
class Plain:
    """A float .tflite and what it is made of.

    Attributes:
        kernels: of its layers, as `convert.kernels` gives them.
        input_shape: of one sample.
        network: makes the Keras model; None where there is only the file.
        batch: how many samples may be run at once.
    """

    file: bytes
    kernels: Mapping[str, NDArray[np.float32]]
    input_shape: tuple[int, ...]
    network: Callable[[], keras.Model] | None = None
    batch: int = BATCH


def convert_plainly(model: FloatModel, technique: Technique, shared: Path | None, report: Report) -> Plain:
    """The plain conversion of `model`; from `shared` if it is there.

    Raises:
        ConversionFailed: the converter refused the model.
    """
    if model.info.kind == "tflite":
        return _brought(model, technique)
    if shared is None:
        return _with_network(_convert(model, report), model)
    depends_on = {"model": model.digest, "tensorflow": version("tensorflow"), "keras": version("keras")}
    return _with_network(
        _load(once(shared, "tflite", depends_on, lambda folder: _save(_convert(model, report), folder))), model
    )


def _with_network(plain: Plain, model: FloatModel) -> Plain:
    return replace(plain, network=model.keras_model)


def _brought(model: FloatModel, technique: Technique) -> Plain:
    """The .tflite that a person brought: its layers are named as the tensors that they compute.

    Raises:
        Unsupported: it cannot be quantized; as it is, it can still be run.
        BadModel: it cannot be read.
    """
    file = model.tflite_file().read_bytes()
    contents = read_file(file)
    if technique.mode is not Mode.FLOAT32:
        file = modernised(file)
    if contents.why_not and technique.mode is not Mode.FLOAT32:
        raise Unsupported(contents.why_not, "Bring the float model it was made of, or compare the two files as they are.")
    assert model.info.signature is not None, "a model that can be loaded has a signature"
    return Plain(
        file, contents.kernels(), model.info.signature.sample_shape, batch=BATCH if model.info.signature.batched else 1
    )


def _convert(model: FloatModel, report: Report) -> Plain:
    network = model.keras_model()
    kernels = {name: np.ascontiguousarray(kernel) for name, kernel in convert.kernels(network).items()}
    file = convert.convert(network, Technique(Mode.FLOAT32), {}, None, report)
    return Plain(file, kernels, tuple(network.input_shape[1:]))


def _save(plain: Plain, folder: Path) -> None:
    (folder / _FILE).write_bytes(plain.file)
    (folder / _SHAPE).write_text(json.dumps(plain.input_shape), encoding="utf-8")
    np.savez(folder / _KERNELS, allow_pickle=False, **plain.kernels)


def _load(folder: Path) -> Plain:
    with np.load(folder / _KERNELS) as file:
        kernels = {name: file[name] for name in file.files}
    shape = json.loads((folder / _SHAPE).read_text(encoding="utf-8"))
    return Plain((folder / _FILE).read_bytes(), kernels, tuple(shape))
