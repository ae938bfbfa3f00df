"""Cross-layer equalization: moves range from the channels of one layer to the next, without changing what the network computes.

Where only a function f with f(s·x) = s·f(x) for s > 0 stands between two layers, output channel c of the first can be divided
by any s > 0 if input channel c of the second is multiplied by it. s = √(r₁/r₂) gives both the same range (Nagel et al. 2019,
Data-Free Quantization Through Weight Equalization and Bias Correction, arXiv:1906.04721, equation 11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import GraphModule, Node

from quantizers.pytorch.graph import DENSE, WEIGHTED, aten, constant, layer_name, layers

Scales = Mapping[str, NDArray[np.float32]]
"""By layer name: what each output channel was divided by."""

_HOMOGENEOUS = frozenset(
    getattr(aten, name).default for name in ("relu", "relu_", "max_pool2d", "constant_pad_nd", "pad", "leaky_relu")
)
_ROUNDS = 10
"""Chains of layers converge within a few passes over all pairs."""


def equalize(program: GraphModule) -> Scales:
    """Changes the weights and biases of `program` in place."""
    total: dict[str, NDArray[np.float32]] = {}
    pairs = [(first, second) for first in layers(program.graph) if (second := _follower(first)) is not None]
    for _ in range(_ROUNDS):
        for first, second in pairs:
            scale = _equalize(program, first, second)
            total[layer_name(first)] = total.get(layer_name(first), np.float32(1)) * scale
    return total


def _follower(layer: Node) -> Node | None:
    """The layer that alone reads this one's output, channel by channel; None where there is none."""
    node = layer
    while len(node.users) == 1:
        node = next(iter(node.users))
        if node.target in WEIGHTED:
            return node if _channelwise(node) and (node.target in DENSE) == (layer.target in DENSE) else None
        if node.target not in _HOMOGENEOUS:
            return None
    return None


def _channelwise(layer: Node) -> bool:
    """Whether input channels of the weight are one axis: not so with more than one group, except one group a channel."""
    return layer.target in DENSE or _groups(layer) == 1 or _depthwise(layer)


def _groups(layer: Node) -> int:
    groups: Any = layer.args[6] if len(layer.args) > 6 else 1
    return int(groups)


def _depthwise(layer: Node) -> bool:
    source: Any = layer.args[0]
    return _groups(layer) > 1 and _groups(layer) == source.meta["val"].shape[1]


def _equalize(program: GraphModule, first: Node, second: Node) -> NDArray[np.float32]:
    weights: Any = first.args[1], second.args[1]
    if any(weight.op != "get_attr" for weight in weights):
        return np.ones(1, np.float32)
    before, after = (constant(program, weight) for weight in weights)
    own = before.flatten(1).abs().amax(1)
    own_axis = 0 if second.target not in DENSE and _depthwise(second) else 1
    following = after.transpose(0, own_axis).flatten(1).abs().amax(1)
    scale = torch.sqrt(own / following)
    if own_axis == 0:  # a depthwise layer may have several output channels for one input channel
        scale = scale if len(own) == len(following) else torch.ones_like(own)
    scale = torch.where(torch.isfinite(scale) & (scale > 0), scale, torch.ones_like(scale))
    before.div_(scale.reshape(-1, *[1] * (before.ndim - 1)))
    bias: Any = first.args[2] if len(first.args) > 2 else None
    if bias is not None:
        constant(program, bias).div_(scale)
    shape = [1] * after.ndim
    shape[own_axis] = -1
    after.mul_(scale.reshape(shape))
    found: NDArray[np.float32] = scale.numpy()
    return found
