"""An architecture as data: a list of named nodes in execution order, from which each framework's form is built.

One description and several builders (interpreter pattern) is what makes the forms agree: names, padding and shapes are said
once. Shapes are those of one sample, channels last: (H, W, C) for images, (F,) for vectors. Weights are canonical in
PyTorch's names and layout ("conv1.weight" is [out, in, kh, kw]); a builder of another layout permutes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

Shape = tuple[int, ...]
Padding = tuple[int, int]
"""Zeros (before, after) the image, alike on both axes."""

INPUT = "input"
VALID: Padding = (0, 0)


def same_padding(size: int, kernel: int, stride: int = 1) -> Padding:
    """The padding with which TensorFlow's "same" turns `size` into ceil(size / stride): the odd zero goes after the image."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Node:
    """One operation: its name, and the names of the nodes (or INPUT) it reads."""

    name: str
    inputs: tuple[str, ...]
    weighted: ClassVar[bool] = False
    """Whether this is a layer that quantization is about: a convolution or a dense layer."""

    def output_shape(self, *sources: Shape) -> Shape:
        return sources[0]

    def weight_shapes(self, source: Shape) -> Mapping[str, Shape]:
        """The canonical arrays the node owns, without the node's name before them."""
        del source
        return {}


@dataclass(frozen=True)
class _Convolution(Node):
    kernel: int = 3
    stride: int = 1
    padding: Padding = VALID
    bias: bool = True
    weighted: ClassVar[bool] = True

    def channels(self, source: Shape) -> int:
        raise NotImplementedError

    def output_shape(self, *sources: Shape) -> Shape:
        height, width, _ = sources[0]
        return self._strided(height), self._strided(width), self.channels(sources[0])

    def _strided(self, size: int) -> int:
        return (size + sum(self.padding) - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class Conv2d(_Convolution):
    filters: int = 1

    def channels(self, source: Shape) -> int:
        del source
        return self.filters

    def weight_shapes(self, source: Shape) -> Mapping[str, Shape]:
        kernel = {"weight": (self.filters, source[-1], self.kernel, self.kernel)}
        return kernel | ({"bias": (self.filters,)} if self.bias else {})


@dataclass(frozen=True)
class DepthwiseConv2d(_Convolution):
    def channels(self, source: Shape) -> int:
        return source[-1]

    def weight_shapes(self, source: Shape) -> Mapping[str, Shape]:
        kernel = {"weight": (source[-1], 1, self.kernel, self.kernel)}
        return kernel | ({"bias": (source[-1],)} if self.bias else {})


@dataclass(frozen=True)
class Dense(Node):
    units: int = 1
    weighted: ClassVar[bool] = True

    def output_shape(self, *sources: Shape) -> Shape:
        del sources
        return (self.units,)

    def weight_shapes(self, source: Shape) -> Mapping[str, Shape]:
        return {"weight": (self.units, source[0]), "bias": (self.units,)}


@dataclass(frozen=True)
class BatchNorm(Node):
    epsilon: float = 1e-5

    def weight_shapes(self, source: Shape) -> Mapping[str, Shape]:
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (source[-1],))


@dataclass(frozen=True)
class Relu(Node):
    pass


@dataclass(frozen=True)
class Relu6(Node):
    pass


@dataclass(frozen=True)
class MaxPool(Node):
    """Maximum of each `size` × `size` window; windows touch and do not overlap, and rows that fill none are left out."""

    size: int = 2

    def output_shape(self, *sources: Shape) -> Shape:
        height, width, channels = sources[0]
        return height // self.size, width // self.size, channels


@dataclass(frozen=True)
class GlobalAveragePool(Node):
    def output_shape(self, *sources: Shape) -> Shape:
        return sources[0][-1:]


@dataclass(frozen=True)
class Flatten(Node):
    """Image to vector. The order differs between layouts, so only a Dense, whose weights can follow it, may read it."""

    def output_shape(self, *sources: Shape) -> Shape:
        return (math.prod(sources[0]),)


@dataclass(frozen=True)
class Add(Node):
    pass


@dataclass(frozen=True)
class Architecture:
    """Nodes in execution order; the last one gives the logits."""

    input_shape: Shape
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        known = {INPUT}
        for node in self.nodes:
            if node.name in known:
                raise ValueError(f"two nodes are called {node.name}")
            if missing := set(node.inputs) - known:
                raise ValueError(f"{node.name} reads {', '.join(sorted(missing))}, which comes later or not at all")
            if not isinstance(node, Dense) and any(isinstance(self.node(name), Flatten) for name in node.inputs):
                raise ValueError(f"{node.name} reads a flattened image, whose order differs between layouts")
            known.add(node.name)

    def node(self, name: str) -> Node | None:
        """The node of that name; None for INPUT."""
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def output(self) -> str:
        return self.nodes[-1].name

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The weighted layers in execution order."""
        return tuple(node.name for node in self.nodes if node.weighted)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Output shape of one sample by node name, INPUT included."""
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        for node in self.nodes:
            shapes[node.name] = node.output_shape(*(shapes[name] for name in node.inputs))
        return shapes

    @cached_property
    def weight_shapes(self) -> Mapping[str, Shape]:
        """Shapes of all canonical weights, by full name."""
        return {
            f"{node.name}.{key}": shape
            for node in self.nodes
            for key, shape in node.weight_shapes(self.shapes[node.inputs[0]]).items()
        }

    @property
    def parameters(self) -> int:
        """Number of trainable values: running statistics are not counted."""
        return sum(math.prod(shape) for name, shape in self.weight_shapes.items() if ".running_" not in name)
