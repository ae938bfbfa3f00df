"""The PyTorch form of an architecture: every node is a submodule under its own name. Imported lazily, because of torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.architecture import (
    INPUT,
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
)


class TorchForm(nn.Module):
    """Takes [N, C, H, W] float32, returns logits [N, classes]; `torch.export` accepts it with a dynamic batch."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        for node in architecture.nodes:
            self.add_module(node.name, _module(node, architecture.shapes[node.inputs[0]]))

    def forward(self, x: Tensor) -> Tensor:
        values = {INPUT: x}
        for node in self.architecture.nodes:
            values[node.name] = getattr(self, node.name)(*(values[name] for name in node.inputs))
        return values[self.architecture.output]


class _Add(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class _UnevenConv2d(nn.Conv2d):
    """A convolution with other padding before than after the image, which nn.Conv2d cannot express."""

    def __init__(self, uneven: tuple[int, int], *args: int, **options: int | bool) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.uneven = uneven * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.uneven))


def build(architecture: Architecture, weights: Mapping[str, NDArray[np.float32]]) -> TorchForm:
    """The module in eval mode with copies of the canonical `weights`."""
    module = TorchForm(architecture)
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    counters = {name: value for name, value in module.state_dict().items() if name.endswith("num_batches_tracked")}
    module.load_state_dict(state | counters)
    return module.eval()


def canonical_weights(module: TorchForm) -> dict[str, NDArray[np.float32]]:
    """Copies of a module's weights under their canonical names."""
    state = module.state_dict()
    return {name: state[name].detach().numpy().copy() for name in module.architecture.weight_shapes}


def _module(node: Node, source: Shape) -> nn.Module:
    match node:
        case Conv2d() | DepthwiseConv2d():
            return _convolution(node, source[-1])
        case Dense():
            return nn.Linear(source[0], node.units)
        case BatchNorm():
            return nn.BatchNorm2d(source[-1], eps=node.epsilon)
        case Relu():
            return nn.ReLU()
        case Relu6():
            return nn.ReLU6()
        case MaxPool():
            return nn.MaxPool2d(node.size)
        case GlobalAveragePool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Flatten():
            return nn.Flatten()
        case Add():
            return _Add()
    raise NotImplementedError(f"no PyTorch form of {type(node).__name__}")


def _convolution(node: Conv2d | DepthwiseConv2d, channels: int) -> nn.Conv2d:
    before, after = node.padding
    shape = (channels, node.channels((channels,)), node.kernel, node.stride)
    groups = channels if isinstance(node, DepthwiseConv2d) else 1
    if before == after:
        return nn.Conv2d(*shape, padding=before, groups=groups, bias=node.bias)
    return _UnevenConv2d(node.padding, *shape, groups=groups, bias=node.bias)
