"""A float model as the rest of the program sees it: what there is to know of it, and its form in each framework.

`FloatModel` is what adapters ask of any model, wherever it came from; a form that a model does not have is refused with the
reason. Everything here is light; the forms import their framework when they are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.architecture import Architecture
from models.preprocessing import UNIT_RANGE, Images, Preprocessing
from quantizers.errors import Unsupported
from quantizers.schema import Backend
from quantizers.signature import Signature

__all__ = ["FloatModel", "Images", "Kind", "ModelInfo", "Preprocessing", "Source", "StatedAccuracy", "ZooModel"]


class Source(StrEnum):
    ZOO = "zoo"
    MINE = "mine"


class Kind(StrEnum):
    """What a model is stored as."""

    ZOO = "zoo"
    ONNX = "onnx"
    TFLITE = "tflite"
    KERAS = "keras"
    SAFETENSORS = "safetensors"
    TORCH = "torch"
    PT2 = "pt2"
    TORCHSCRIPT = "torchscript"

    @property
    def is_program(self) -> bool:
        """Whether reading such a file can run code of its own, so that a person has to trust it."""
        return self in (Kind.PT2, Kind.TORCHSCRIPT)


@dataclass(frozen=True, slots=True)
class StatedAccuracy:
    """Top-1 accuracy (0 to 1) as the training script measured it on `n` samples of a dataset's test split."""

    top1: float
    dataset: str
    n: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What there is to know of a model without loading it.

    Attributes:
        parameters: number of trainable values.
        input_shape: that of one sample, channels last: (H, W, C) for images, (F,) where several inputs are packed in a row.
        classes: length of the output of one sample; None when only running it tells.
        labels: names of the classes; None when the weights' source gives none.
        datasets: ids of the datasets that fit, the most useful first.
        origin: where the weights come from, in words.
        accuracy: None when no labelled data is at hand to measure it on.
        why_not: why the model cannot be loaded here; None when it can.
        backends: why a backend cannot take it, by backend; None for those that can.
        signature: its inputs; None for the zoo, whose models take one batch of images.
        quantized: whether the file holds quantized weights already: it is inspected and measured, not quantized again.
        classifies: whether its output is taken for logits of classes; if not, there is no answer that could agree with another.
    """

    id: str
    title: str
    task: str
    summary: str
    parameters: int
    input_shape: tuple[int, ...]
    classes: int | None
    labels: tuple[str, ...] | None
    datasets: tuple[str, ...]
    licence: str
    origin: str
    preprocessing: Preprocessing = UNIT_RANGE
    accuracy: StatedAccuracy | None = None
    why_not: str | None = None
    source: Source = Source.ZOO
    kind: Kind = Kind.ZOO
    backends: Mapping[Backend, str | None] = field(default_factory=lambda: dict.fromkeys(Backend))
    signature: Signature | None = None
    quantized: bool = False
    classifies: bool = True

    @property
    def available(self) -> bool:
        return self.why_not is None

    def preprocess(self, x: Images) -> NDArray[np.float32]:
        """[N, H, W, C] pixels as the model takes them; float data counts as preprocessed already and is left as it is."""
        return self.preprocessing.apply(x)

    def targets(self, y: NDArray[np.int64]) -> NDArray[np.int64]:
        """The index in the model's output of each label."""
        return y + self.preprocessing.label_offset


class FloatModel(Protocol):
    """A loaded float model. The forms raise `Unsupported`, with the reason, where the model has none of the kind."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The weighted layers (convolutions, dense layers) in execution order."""

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of what the model is made of."""

    def torch_module(self) -> Any:
        """An eval-mode nn.Module taking [N, C, H, W] float32; submodules carry the layer names; ends in logits."""

    def keras_model(self) -> Any:
        """A keras.Model taking [N, H, W, C] float32; layers carry the layer names; ends in logits."""

    def onnx_model(self) -> Any:
        """An onnx.ModelProto; nodes carry the layer names. One of the zoo takes [N, C, H, W] float32 and ends in logits."""

    def tflite_file(self) -> Path:
        """The .tflite that a person brought; models of other kinds are converted from `keras_model` instead."""


@dataclass(frozen=True, eq=False)
class ZooModel:
    """An architecture of the zoo with one set of weights, which has every framework's form; meets `FloatModel`.

    Weights are float32, under PyTorch's names and in its layout: "conv1.weight" is [out, in, kh, kw].
    """

    info: ModelInfo
    architecture: Architecture
    weights: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in self.weights.items()}
        if shapes != dict(self.architecture.weight_shapes):
            raise ValueError(f"the weights of {self.info.id} do not fit its architecture")

    @property
    def layer_names(self) -> tuple[str, ...]:
        return self.architecture.layer_names

    @property
    def digest(self) -> str:
        """SHA-256 of the weights' names, shapes and values, in hexadecimal."""
        state = hashlib.sha256()
        for name in sorted(self.weights):
            array = np.ascontiguousarray(self.weights[name], "<f4")
            state.update(f"{name}{array.shape}".encode() + array.tobytes())
        return state.hexdigest()

    def torch_module(self) -> Any:
        from models import torch_form

        return torch_form.build(self.architecture, self.weights)

    def keras_model(self) -> Any:
        from models import keras_form

        return keras_form.build(self.architecture, self.weights, self.info.id.replace("-", "_"))

    def onnx_model(self) -> Any:
        from models import onnx_form

        return onnx_form.build(self.architecture, self.weights, self.info.id.replace("-", "_"))

    def tflite_file(self) -> Path:
        raise Unsupported(f"{self.info.title} has no .tflite of its own.", "It is converted from its Keras form.")
