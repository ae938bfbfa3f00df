"""The Keras form of an architecture: a functional model, channels last, same names. Imported lazily, because of TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.architecture import (
    INPUT,
    VALID,
    Add,
    Architecture,
    BatchNorm,
    Conv2d,
    Dense,
    DepthwiseConv2d,
    Flatten,
    GlobalAveragePool,
    MaxPool,
    Node,
    Relu,
    Relu6,
    Shape,
    same_padding,
)

Arrays = Mapping[str, NDArray[np.float32]]


def build(architecture: Architecture, weights: Arrays, name: str) -> Any:
    """A keras.Model that takes [N, H, W, C] float32 and returns logits [N, classes]."""
    values: dict[str, Any] = {INPUT: keras.Input(architecture.input_shape, name=INPUT)}
    for node in architecture.nodes:
        sources = [values[source] for source in node.inputs]
        values[node.name] = _apply(node, sources, architecture.shapes[node.inputs[0]])
    model = keras.Model(values[INPUT], values[architecture.output], name=name)
    for node in architecture.nodes:
        if arrays := _arrays(node, architecture, weights):
            model.get_layer(node.name).set_weights(arrays)
    return model


def _apply(node: Node, sources: list[Any], shape: Shape) -> Any:
    layers, name = keras.layers, node.name
    match node:
        case Conv2d() | DepthwiseConv2d():
            return _convolve(node, sources[0], shape)
        case Dense():
            return layers.Dense(node.units, name=name)(sources[0])
        case BatchNorm():
            return layers.BatchNormalization(epsilon=node.epsilon, name=name)(sources[0])
        case Relu():
            return layers.ReLU(name=name)(sources[0])
        case Relu6():
            return layers.ReLU(max_value=6.0, name=name)(sources[0])
        case MaxPool():
            return layers.MaxPooling2D(node.size, name=name)(sources[0])
        case GlobalAveragePool():
            return layers.GlobalAveragePooling2D(name=name)(sources[0])
        case Flatten():
            return layers.Flatten(name=name)(sources[0])
        case Add():
            return layers.Add(name=name)(sources)
    raise NotImplementedError(f"no Keras form of {type(node).__name__}")


def _convolve(node: Conv2d | DepthwiseConv2d, source: Any, shape: Shape) -> Any:
    """Convolution with Keras' own "same" where that is the padding meant, so that no separate pad operation is needed."""
    padding = "valid"
    if all(node.padding == same_padding(size, node.kernel, node.stride) for size in shape[:2]):
        padding = "same"
    elif node.padding != VALID:
        source = keras.layers.ZeroPadding2D((node.padding, node.padding), name=f"{node.name}_pad")(source)
    options = {"strides": node.stride, "padding": padding, "use_bias": node.bias, "name": node.name}
    if isinstance(node, DepthwiseConv2d):
        return keras.layers.DepthwiseConv2D(node.kernel, **options)(source)
    return keras.layers.Conv2D(node.filters, node.kernel, **options)(source)


def _arrays(node: Node, architecture: Architecture, weights: Arrays) -> list[NDArray[np.float32]]:
    """The node's weights in Keras' order and layout."""
    own = [weights[f"{node.name}.{key}"] for key in node.weight_shapes(architecture.shapes[node.inputs[0]])]
    match node:
        case Conv2d():
            own[0] = own[0].transpose(2, 3, 1, 0)
        case DepthwiseConv2d():
            own[0] = own[0].transpose(2, 3, 0, 1)
        case Dense():
            own[0] = _channels_last(own[0], architecture, node.inputs[0]).T
    return own


def _channels_last(kernel: NDArray[np.float32], architecture: Architecture, source: str) -> NDArray[np.float32]:
    """The columns [out, C·H·W] of a dense kernel that reads a flattened image in the order H, W, C."""
    flatten = architecture.node(source)
    if not isinstance(flatten, Flatten):
        return kernel
    height, width, channels = architecture.shapes[flatten.inputs[0]]
    return kernel.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(kernel.shape)
