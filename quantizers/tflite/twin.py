"""A Keras network rebuilt for training: batch norms folded into the layers before them, and every value rounded on its way.

The twin with `bits` computes as its quantized file will; without, it is the float control: the same parameters, not rounded.
An activation is rounded where TFLite stores one: not between a layer and what it fuses, not where an operation keeps its
input's grid (pooling, reshaping).

Source: rules of the TFLite 8-bit quantization specification,
https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from quantizers.errors import Unsupported
from quantizers.tflite.fake_quant import Range, UnitRange, Weighted

WEIGHTED = ("Conv2D", "DepthwiseConv2D", "Dense")
_SAME_GRID = ("MaxPooling2D", "AveragePooling2D", "Flatten", "Reshape", "Dropout", "ZeroPadding2D", "InputLayer")
_OWN_GRID = ("Add", "GlobalAveragePooling2D", "Concatenate")
_ACTIVATIONS = ("linear", "relu", "relu6", "softmax")
_CALIBRATION_BATCH = 50
BatchNorm = "BatchNormalization"


@dataclass(frozen=True, eq=False)
class Twin:
    """`network` is what is converted; `logits` is the same layers up to the values that the loss is computed of."""

    network: Any
    logits: Any

    def calibrate(self, samples: NDArray[np.float32]) -> None:
        """Sets every range to the smallest and largest value over `samples`."""
        ranges = [layer for layer in self.logits.layers if isinstance(layer, Range)]
        for one in ranges:
            one.widens = True
        for start in range(0, len(samples), _CALIBRATION_BATCH):
            self.logits(samples[start : start + _CALIBRATION_BATCH])
        for one in ranges:
            one.widens = False

    def take_weights(self, other: Twin) -> None:
        """Takes the kernels and biases of another twin of the same network."""
        for own, theirs in zip(self._weighted(), other._weighted(), strict=True):
            own.set_weights(theirs.get_weights())

    @contextmanager
    def convertible(self) -> Iterator[Any]:
        """The network without what imitates kernels, which the converter would take for operations of its own."""
        rescaling = [layer for layer in self._weighted() if layer.rescales]
        for layer in rescaling:
            layer.rescales = False
        try:
            yield self.network
        finally:
            for layer in rescaling:
                layer.rescales = True

    def _weighted(self) -> Iterator[Weighted]:
        return (layer for layer in self.network.layers if isinstance(layer, Weighted))


def build(network: Any, bits: Mapping[str, int] | None) -> Twin:
    """The twin of `network`.

    Args:
        network: a Sequential or functional Keras model of known layers with one input and one output.
        bits: by layer name, the width of every weighted layer's kernel; None rounds nothing.

    Raises:
        Unsupported: a layer is of another kind, or a batch norm follows none that it can be folded into.
    """
    return _Builder(keras.Model(network.inputs[0], network.outputs[0]), bits).build()


def activation(layer: Any) -> str:
    """The activation function that a layer applies or is."""
    kind = type(layer).__name__
    if kind == "Softmax":
        return "softmax"
    if kind == "ReLU":
        return {None: "relu", 6.0: "relu6"}.get(layer.max_value, "another ReLU")
    function = getattr(layer, "activation", None)
    return "linear" if function is None else str(function.__name__)


@dataclass
class _Builder:
    network: Any
    bits: Mapping[str, int] | None
    folded: dict[str, Any] = field(default_factory=dict)
    """The batch norm of each layer that has one."""
    ranges: dict[str, Range] = field(default_factory=dict)
    """What rounds the output of each layer that is stored."""

    def build(self) -> Twin:
        for layer in self.network.layers:
            self._admit(layer)
        entered: dict[int, Any] = {}

        def enter(tensor: Any) -> Any:
            """The model's input, rounded once however many layers read it."""
            if type(tensor._keras_history.operation).__name__ != "InputLayer":
                return tensor
            if id(tensor) not in entered:
                entered[id(tensor)] = tensor if self.bits is None else Range("input_range")(tensor)
            return entered[id(tensor)]

        def call(layer: Any, *args: Any, **others: Any) -> Any:
            args = keras.tree.map_structure(enter, args)
            original = self.network.get_layer(layer.name)
            if type(original).__name__ == BatchNorm:
                return args[0]
            if isinstance(layer, Weighted) and self.bits is not None:
                layer.lies_between(_range(args[0]), self._range_after(original))
            result = layer(*args, **others)
            return self._range_after(original)(result) if self.bits is not None and self._stores(original) else result

        copy = keras.models.clone_model(self.network, clone_function=self._copy, call_function=call)
        output = copy.outputs[0]
        if activation(self.network.layers[-1]) != "softmax":
            return Twin(copy, copy)
        result = keras.layers.Softmax(name="probabilities")(output)
        result = result if self.bits is None else UnitRange(name="probabilities_range")(result)
        return Twin(keras.Model(copy.inputs, result), copy)

    def _admit(self, layer: Any) -> None:
        """Notes the batch norms to fold, and refuses what cannot be imitated."""
        kind, name = type(layer).__name__, layer.name
        if kind == BatchNorm:
            source = layer._inbound_nodes[0].input_tensors[0]._keras_history.operation
            alone = len(self._readers(source)) == 1 and activation(source) == "linear"
            if type(source).__name__ not in WEIGHTED or not alone:
                raise Unsupported(f"The batch norm {name} follows no layer that it can be folded into.", _HINT)
            self.folded[source.name] = layer
        elif kind in ("ReLU", "Softmax", "Activation", *WEIGHTED):
            last = layer is self.network.layers[-1]
            if activation(layer) not in _ACTIVATIONS or (activation(layer) == "softmax" and not last):
                raise Unsupported(f"{name} computes {activation(layer)}, which training cannot imitate.", _HINT)
        elif kind not in (*_SAME_GRID, *_OWN_GRID):
            raise Unsupported(f"The layer {name} is a {kind}, which training cannot imitate.", _HINT)

    def _copy(self, layer: Any) -> Any:
        kind = type(layer).__name__
        if kind in WEIGHTED:
            function = activation(layer)
            bits = None if self.bits is None else self.bits[layer.name]
            return Weighted(
                layer, fold(layer, self.folded.get(layer.name)), bits, "linear" if function == "softmax" else function
            )
        if activation(layer) == "softmax":
            return keras.layers.Identity(name=layer.name)
        return type(layer).from_config(layer.get_config())

    def _stores(self, layer: Any) -> bool:
        """Whether the file stores what the layer computes as a tensor with a range of its own, nothing being fused to it."""
        kind, function = type(layer).__name__, activation(layer)
        if kind in _SAME_GRID or kind == BatchNorm or (function == "softmax" and kind not in WEIGHTED):
            return False
        readers = self._readers(self.folded.get(layer.name, layer))
        fuses = (
            len(readers) == 1 and type(readers[0]).__name__ in ("ReLU", "Activation") and activation(readers[0]) != "softmax"
        )
        return not (fuses and function == "linear")

    def _readers(self, layer: Any) -> Sequence[Any]:
        known = {id(other) for other in self.network.layers}
        return [node.operation for node in layer._outbound_nodes if id(node.operation) in known]

    def _range_after(self, layer: Any) -> Range:
        """The range of the tensor that the file stores of a layer's output, which is that of what it fuses."""
        while not self._stores(layer):
            layer = self._readers(layer)[0]
        if layer.name not in self.ranges:
            self.ranges[layer.name] = Range(f"{layer.name}_range")
        return self.ranges[layer.name]


def _range(tensor: Any) -> Range:
    """The range on whose grid a tensor of the twin lies, above operations that keep it."""
    operation = tensor._keras_history.operation
    return operation if isinstance(operation, Range) else _range(operation.input)


_HINT = "Quantize this model without training: static_wi8_ai8 takes any layer."


def fold(layer: Any, norm: Any) -> list[NDArray[np.float32]]:
    """Kernel and bias of a layer with the batch norm after it, if any, folded in."""
    kernel = np.asarray(layer.kernel, np.float32)
    channels = int(np.prod(kernel.shape[-2:])) if type(layer).__name__ == "DepthwiseConv2D" else kernel.shape[-1]
    bias = np.zeros(channels, np.float32) if layer.bias is None else np.asarray(layer.bias, np.float32)
    if norm is None:
        return [kernel, bias]
    mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
    gamma = np.ones_like(mean) if norm.gamma is None else np.asarray(norm.gamma)
    beta = np.zeros_like(mean) if norm.beta is None else np.asarray(norm.beta)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    spread = factor.reshape(kernel.shape[-2:]) if type(layer).__name__ == "DepthwiseConv2D" else factor
    return [kernel * spread, (bias - mean) * factor + beta]
