"""Codes of few bits, packed into bytes in the artefact, and the one operation that turns them back into numbers.

A packed constant is uint8 with 8 ÷ bits codes to a byte, the first in the lowest bits, without gaps between rows. A program
reads it through `quantscope::dequantize_packed`, which importing this module registers; without it such an artefact
does not load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantizers.schema import Integers


def pack(codes: Integers, bits: int) -> NDArray[np.uint8]:
    """Bytes of signed codes of any shape: −2^(bits−1) is stored as 0; at one bit the codes are −1 and 1."""
    flat = codes.ravel()
    unsigned = (flat + 1) // 2 if bits == 1 else flat + (1 << (bits - 1))
    per_byte = 8 // bits
    lanes = np.pad(unsigned.astype(np.uint8), (0, -flat.size % per_byte)).reshape(-1, per_byte)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(lanes << np.arange(0, 8, bits, dtype=np.uint8), axis=1)
    return packed


def unpack(packed: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    """The int8 codes that `pack` was given."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    lanes = (packed.unsqueeze(1) >> shifts) & ((1 << bits) - 1)
    flat = lanes.flatten()[: int(np.prod(shape))].to(torch.int16)
    codes = 2 * flat - 1 if bits == 1 else flat - (1 << (bits - 1))
    return codes.to(torch.int8).reshape(tuple(shape))


@torch.library.custom_op("quantscope::dequantize_packed", mutates_args=())
def dequantize_packed(
    packed: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None,
    bits: int,
    group_size: int,
    shape: Sequence[int],
) -> torch.Tensor:
    """scale · (code − zero_point) in float32.

    Args:
        scale: [channels, groups] along the first axis of `shape` and in order along all others.
        zero_point: int8 of the same shape; None stands for zeros and a symmetric range of codes.
        group_size: weights of one channel that share a scale; the last group may be shorter.
        shape: of the weight, output channels first.
    """
    rows = unpack(packed, bits, (shape[0], int(np.prod(shape[1:])))).to(torch.float32)
    if zero_point is not None:
        rows = rows - _spread(zero_point.to(torch.float32), group_size, rows.shape[1])
    return (rows * _spread(scale, group_size, rows.shape[1])).reshape(tuple(shape))


def _spread(values: torch.Tensor, group_size: int, columns: int) -> torch.Tensor:
    return values.repeat_interleave(group_size, dim=1)[:, :columns]


@dequantize_packed.register_fake
def _(*arguments: Any) -> torch.Tensor:
    scale, shape = arguments[1], arguments[-1]
    empty: torch.Tensor = scale.new_empty(tuple(shape))
    return empty


OPERATION = torch.ops.quantscope.dequantize_packed.default
