"""Rounding weights up or down so that a layer's output, not the weight, comes out closest.

For a layer y = w·x the error over all samples is a quadratic form of the weights: with G = Σ x̂x̂ᵀ and C = Σ y x̂ᵀ it is
tr(ŵ G ŵᵀ) − 2 tr(ŵ Cᵀ) + Σ y². Both methods work on G and C, so their cost does not depend on the number of samples. x̂ is what
the quantized network feeds the layer, y what the float layer gives: errors of earlier layers are compensated as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.fx import Node
from torch.nn import functional

from quantizers.numerics import broadcast
from quantizers.pytorch.graph import DENSE, aten
from quantizers.pytorch.walk import Arguments
from quantizers.pytorch.weights import Rounded
from quantizers.schema import Floats, Integers, QuantParams

_STEPS, _RATE, _WARM_UP = 300, 5e-2, 0.2
_LOW, _HIGH = -0.1, 1.1
"""A sigmoid stretched to these limits and cut to [0, 1] reaches both ends."""
_PENALTY, _SHARPEST, _SOFTEST = 5.0, 2.0, 20.0
"""The penalty of a weight halfway between two codes, in mean errors of a weight that is rounded to the nearest."""
_DAMPING = 0.01
_MOST_VALUES = 1 << 24
"""Values of unfolded patches held at once."""


@dataclass(frozen=True, eq=False)
class Moments:
    """G [groups, inputs, inputs] and C [groups, outputs of a group, inputs], per sample and place of the output."""

    inputs: torch.Tensor
    targets: torch.Tensor
    energy: float
    """Σ y² over all outputs."""

    def error(self, weight: torch.Tensor) -> torch.Tensor:
        """Σ (y − ŵ·x̂)² over all outputs, for weights [groups, outputs of a group, inputs]."""
        return ((weight @ self.inputs - 2 * self.targets) * weight).sum() + self.energy


def measurable(layer: Node) -> bool:
    """Whether `moments` knows how this layer reads its input."""
    return layer.target in DENSE or layer.target is aten.conv2d.default


def moments(layer: Node, arguments: Arguments, wanted: torch.Tensor) -> Moments:
    """Moments of a layer's input and of the output [N, …] it should have, without its bias."""
    x, weight, *rest = arguments
    groups = rest[4] if layer.target not in DENSE and len(rest) > 4 else 1
    columns = weight[0].numel()
    inputs = torch.zeros(groups, columns, columns)
    targets = torch.zeros(groups, len(weight) // groups, columns)
    places, energy = 0, 0.0
    size = max(1, _MOST_VALUES // max(1, wanted[0].numel() // len(weight) * columns * groups))
    for start in range(0, len(x), size):
        patches = _patches(layer, x[start : start + size], weight, rest).reshape(groups, columns, -1)
        outputs = wanted[start : start + size]
        outputs = outputs.reshape(-1, len(weight)).T if layer.target in DENSE else outputs.transpose(0, 1).flatten(1)
        inputs += patches @ patches.transpose(1, 2)
        targets += outputs.reshape(groups, -1, patches.shape[2]) @ patches.transpose(1, 2)
        places, energy = places + patches.shape[2], energy + float((outputs**2).sum())
    return Moments(inputs / places, targets / places, energy / places)


def _patches(layer: Node, x: torch.Tensor, weight: torch.Tensor, rest: Any) -> torch.Tensor:
    """[all inputs of all groups, samples and places]: what each output value is a weighted sum of."""
    if layer.target in DENSE:
        return x.reshape(-1, x.shape[-1]).T
    given: list[Any] = list(rest[1:4])
    stride, padding, dilation = given + [(1, 1), (0, 0), (1, 1)][len(given) :]
    unfolded = functional.unfold(x, tuple(weight.shape[2:]), tuple(dilation), tuple(padding), tuple(stride))
    return unfolded.transpose(0, 1).flatten(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of products of small matrices: several threads would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def improved(method: str, weight: Floats, rounded: Rounded, seen: Moments) -> Integers:
    """Codes on the grid of `rounded`, by "learned" or "compensated"; those of `rounded` where these do no better."""
    codes, params = rounded
    grid = _Grid.of(codes.shape, params, seen)
    w = torch.from_numpy(np.ascontiguousarray(weight, np.float32)).reshape(seen.targets.shape)
    nearest = torch.from_numpy(codes.astype(np.float32)).reshape(w.shape)
    with _one_thread():
        found = (_learned if method == "learned" else _compensated)(w, grid, seen, nearest)
    better = seen.error(grid.weight(found)) < seen.error(grid.weight(nearest))
    kept: Integers = (found if better else nearest).numpy().astype(np.int64).reshape(codes.shape)
    return kept


@dataclass(frozen=True, eq=False)
class _Grid:
    """Scale and zero point of every single weight, in the shape that `Moments` takes weights in."""

    scale: torch.Tensor
    zero_point: torch.Tensor
    low: int
    high: int

    @classmethod
    def of(cls, shape: tuple[int, ...], params: QuantParams, seen: Moments) -> _Grid:
        values = (broadcast(one, shape, params).astype(np.float32) for one in (params.scale, params.zero_point))
        scale, zero_point = (torch.from_numpy(one).reshape(seen.targets.shape) for one in values)
        return cls(scale, zero_point, params.qmin, params.qmax)

    def weight(self, codes: torch.Tensor) -> torch.Tensor:
        return (codes - self.zero_point) * self.scale

    def clip(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.clamp(self.low, self.high)


def _learned(weight: torch.Tensor, grid: _Grid, seen: Moments, nearest: torch.Tensor) -> torch.Tensor:
    """Up or down, learned by gradient descent on how far up: AdaRound (Nagel et al. 2020, arXiv:2004.10568).

    There each step sees a minibatch; here, through the moments, all samples. The penalty, whose exponent falls from 20 to 2,
    drives every weight to one of its two codes.
    """
    steps = weight / grid.scale + grid.zero_point
    floor = steps.floor()
    share = (steps - floor).clamp(0.01, 0.99)
    logits = torch.log((share - _LOW) / (_HIGH - share)).requires_grad_()
    optimizer = torch.optim.Adam([logits], _RATE)
    unit = float(seen.error(grid.weight(nearest)).clamp_min(torch.finfo(torch.float32).tiny)) / weight.numel()
    for step in range(_STEPS):
        up = (torch.sigmoid(logits) * (_HIGH - _LOW) + _LOW).clamp(0, 1)
        loss = seen.error(grid.weight(grid.clip(floor + up))) / unit
        progress = (step / _STEPS - _WARM_UP) / (1 - _WARM_UP)
        if progress > 0:
            exponent = _SHARPEST + (_SOFTEST - _SHARPEST) * 0.5 * (1 + np.cos(np.pi * progress))
            loss = loss + _PENALTY * (1 - (2 * up - 1).abs() ** exponent).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return grid.clip(floor + (logits.detach() > 0))


def _compensated(weight: torch.Tensor, grid: _Grid, seen: Moments, nearest: torch.Tensor) -> torch.Tensor:
    """Column by column, what rounding one column does to the output is taken up by the later ones: GPTQ.

    Frantar et al. 2022, arXiv:2210.17323. It begins at the real weights of least error, which already make up for the errors
    of earlier layers.
    """
    damping = _DAMPING * torch.diagonal(seen.inputs, dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    hessian = seen.inputs + damping[:, None, None] * torch.eye(seen.inputs.shape[1])
    w = weight + torch.linalg.solve(hessian, (seen.targets - weight @ seen.inputs).transpose(1, 2)).transpose(1, 2)
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    codes = torch.empty_like(nearest)
    for column in range(w.shape[2]):
        scale, zero_point = grid.scale[..., column], grid.zero_point[..., column]
        codes[..., column] = grid.clip(torch.round(w[..., column] / scale) + zero_point)
        error = (w[..., column] - (codes[..., column] - zero_point) * scale) / factor[:, column, column, None]
        w[..., column:] -= error[..., None] * factor[:, None, column, column:]
    return codes
