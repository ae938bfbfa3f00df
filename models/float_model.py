"""A float model of the zoo: one set of weights, one architecture, and its form in each framework.

Everything here is light; the forms import their framework when they are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.architecture import Architecture

Images = NDArray[np.uint8] | NDArray[np.float32]


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
        input_shape: (H, W, C).
        labels: names of the classes; None when the weights' source gives none.
        datasets: ids of the datasets that fit, the most useful first.
        offset, divisor: uint8 pixels become (x − offset) ÷ divisor.
        accuracy: None when no labelled data is at hand to measure it on.
        why_not: why the model cannot be loaded here; None when it can.
    """

    id: str
    title: str
    task: str
    summary: str
    parameters: int
    input_shape: tuple[int, int, int]
    classes: int
    labels: tuple[str, ...] | None
    datasets: tuple[str, ...]
    offset: float
    divisor: float
    licence: str
    source: str
    accuracy: StatedAccuracy | None = None
    why_not: str | None = None

    @property
    def available(self) -> bool:
        return self.why_not is None

    def preprocess(self, x: Images) -> NDArray[np.float32]:
        """[N, H, W, C] pixels as the model takes them; float data counts as preprocessed already and is left as it is."""
        if x.dtype != np.uint8:
            return x.astype(np.float32, copy=False)
        return (x.astype(np.float32) - np.float32(self.offset)) / np.float32(self.divisor)


@dataclass(frozen=True, eq=False)
class FloatModel:
    """Weights are float32, under PyTorch's names and in its layout: "conv1.weight" is [out, in, kh, kw]."""

    info: ModelInfo
    architecture: Architecture
    weights: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in self.weights.items()}
        if shapes != dict(self.architecture.weight_shapes):
            raise ValueError(f"the weights of {self.info.id} do not fit its architecture")

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The weighted layers (convolutions, dense layers) in execution order."""
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
        """An eval-mode nn.Module taking [N, C, H, W] float32; submodules carry the layer names; ends in logits."""
        from models import torch_form

        return torch_form.build(self.architecture, self.weights)

    def keras_model(self) -> Any:
        """A keras.Model taking [N, H, W, C] float32; layers carry the layer names; ends in logits."""
        from models import keras_form

        return keras_form.build(self.architecture, self.weights, self.info.id.replace("-", "_"))

    def onnx_model(self) -> Any:
        """An onnx.ModelProto taking [N, C, H, W] float32; nodes carry the layer names; ends in logits."""
        from models import onnx_form

        return onnx_form.build(self.architecture, self.weights, self.info.id.replace("-", "_"))
