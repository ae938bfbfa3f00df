"""Rounds float weights to grids that PT2E's observers do not know: few bits and groups.

All of it is NumPy on weights with output channels first. Scales are rounded to float32 before the codes are chosen, because
that is how they are stored.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quantizers.numerics import dequantize, min_max_params, quantize
from quantizers.schema import Floats, Granularity, Integers, QuantParams, Scheme

_SHRINKING = np.linspace(1.0, 0.3, 36)
"""Shares of the min-max range that a search for the least squared error tries."""

Rounded = tuple[Integers, QuantParams]


def integers(weight: Floats, bits: int, *, group_size: int | None = None, search: bool = False) -> Rounded:
    """Rounds to the nearest code, per output channel or per group of consecutive weights of one channel.

    Two-bit grids are affine, because a symmetric one has three codes only. Groups have codes of shape [channels, weights of one
    channel]; a channel no longer than a group is one.

    Args:
        search: narrows each range to the share of it that gives the least squared error.
    """
    rows = weight.reshape(len(weight), -1)
    size = min(group_size or rows.shape[1], rows.shape[1])
    scheme = Scheme.AFFINE if bits == 2 else Scheme.SYMMETRIC
    params = _stored(min_max_params(rows, bits, scheme=scheme, granularity=Granularity.PER_GROUP, group_size=size))
    if search:
        params = _least_squared_error(rows, params, size)
    codes = quantize(rows, params)
    if size < rows.shape[1]:
        return codes, params
    return codes.reshape(weight.shape), replace(params, axis=0, group_size=None)


def _stored(params: QuantParams) -> QuantParams:
    return replace(params, scale=params.scale.astype(np.float32).astype(np.float64))


def _least_squared_error(rows: Floats, params: QuantParams, size: int) -> QuantParams:
    """Shrinks the range of each group by itself."""
    starts = np.arange(0, rows.shape[1], size)
    best, least = params.scale, np.full(params.scale.shape, np.inf)
    for share in _SHRINKING:
        tried = _stored(replace(params, scale=params.scale * share))
        squared = (rows - dequantize(quantize(rows, tried), tried)) ** 2
        error = np.add.reduceat(squared, starts, axis=1).ravel()
        best, least = np.where(error < least, tried.scale, best), np.minimum(error, least)
    return replace(params, scale=best)
