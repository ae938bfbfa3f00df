"""Loads an .onnx that a person brought, with its inputs as the signature says. Imported lazily."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

from quantizers.errors import BadModel
from quantizers.onnxruntime.declared import declare
from quantizers.signature import Signature

_NO_MODEL = "The file is no model of a kind that is known here."
_KNOWN = "Known: .onnx, .tflite, .keras, .h5, .safetensors."


def load(path: Path, signature: Signature) -> ModelProto:
    """The model with external weights taken in.

    Raises:
        BadModel: weights that lie outside the file are missing, or outside its folder.
    """
    model = read(path)
    declare(model, signature)
    return model


def read(path: Path) -> ModelProto:
    """The model as the file says, with external weights taken in.

    Raises:
        BadModel: it is no .onnx, or weights that lie outside the file are missing, or outside its folder.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # a broken file makes protobuf raise whatever it likes
        raise BadModel(_NO_MODEL, _KNOWN) from error
    if not model.graph.node:
        raise BadModel(_NO_MODEL, _KNOWN)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise BadModel(
            f"Weights that lie outside the file cannot be read: {str(error).splitlines()[0]}",
            "Put the .onnx and the files it refers to into one .zip or folder.",
        ) from error
    return model
