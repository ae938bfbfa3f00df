"""Weights rounded as mixed precision stores them, in torch: the grids of `quantizers.numerics`, fast enough to count as free.

One scale per output channel, float32. Up to 7 bits the range of a channel is the share of its min-max range that gives the
least squared error; 8 bits and more take all of it. 2-bit grids are affine, because a symmetric one has three codes only;
16 bits mean float16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.sensitivity.report import FEWEST_BITS, check_bits
from quantizers.errors import QuantizationError
from quantizers.numerics import integer_range

HALF = 16
_SEARCHED_BELOW = 8
_SHARES = torch.linspace(1.0, 0.3, 36, dtype=torch.float64).tolist()


@dataclass(frozen=True, eq=False)
class RoundedWeight:
    """A weight on its grid.

    Attributes:
        values: what the codes stand for, float32, of the weight's shape.
        codes: integers of the weight's shape; float16 values at 16 bits.
        scale, zero_point: one per output channel; None at 16 bits.
    """

    bits: int
    values: Tensor
    codes: Tensor
    scale: Tensor | None = None
    zero_point: Tensor | None = None


def round_weight(weight: Tensor, bits: int, layer: str) -> RoundedWeight:
    """Rounds `weight` (output channels first) to the nearest codes.

    Raises:
        BadData: no such width.
        QuantizationError: the weight holds NaN or infinity.
    """
    check_bits([bits])
    if not torch.isfinite(weight).all():
        raise QuantizationError(f"The weight of {layer} holds NaN or infinity.", "Check the model's weights.")
    if bits == HALF:
        return RoundedWeight(bits, weight.half().float(), weight.half())
    rows = weight.contiguous().flatten(1)
    qmin, qmax = integer_range(bits, narrow=bits > FEWEST_BITS)
    scale, zero = _affine(rows, qmin, qmax) if bits == FEWEST_BITS else _symmetric(rows, qmax)
    if bits < _SEARCHED_BELOW:
        scale = _least_squared_error(rows, scale, qmin - zero, qmax - zero)
    # In float64 as in `quantizers.numerics`, so that no value on the edge of two codes falls to the other side.
    codes = torch.clamp((rows.double() / scale.double()).round_(), qmin - zero, qmax - zero)
    values = (codes * scale.double()).float().reshape(weight.shape)
    stored = (codes + zero).to(torch.int16).reshape(weight.shape)
    return RoundedWeight(bits, values, stored, scale.flatten(), zero.flatten().to(torch.int8))


def _symmetric(rows: Tensor, qmax: int) -> tuple[Tensor, Tensor]:
    return _positive(rows.abs().amax(1, keepdim=True).double() / qmax), torch.zeros(len(rows), 1, dtype=torch.float64)


def _affine(rows: Tensor, qmin: int, qmax: int) -> tuple[Tensor, Tensor]:
    """The range of each row, widened to hold zero."""
    low = rows.amin(1, keepdim=True).clamp_max(0).double()
    high = rows.amax(1, keepdim=True).clamp_min(0).double()
    exact = (high - low) / (qmax - qmin)
    zero = torch.clamp((qmin - low / torch.where(exact > 0, exact, 1.0)).round_(), qmin, qmax)
    return _positive(exact), zero


def _positive(scale: Tensor) -> Tensor:
    """As stored; a channel of zeros gets 1, which keeps it exactly zero."""
    return torch.where(scale > 0, scale, 1.0).float()


def _least_squared_error(rows: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Narrows each row's range to the share of it that costs the least; in units of the widest scale, in one buffer."""
    units, low, high = rows / scale, low.float(), high.float()
    best, least = torch.ones_like(scale), torch.full_like(scale, torch.inf)
    buffer = torch.empty_like(units)
    for share in _SHARES:
        torch.mul(units, 1 / share, out=buffer)
        torch.clamp(buffer.round_(), low, high, out=buffer)
        error = torch.linalg.vector_norm(buffer.mul_(share).sub_(units), dim=1, keepdim=True)
        better = error < least
        best, least = torch.where(better, share, best), torch.where(better, error, least)
    return scale * best
