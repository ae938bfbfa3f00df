"""Rounds float weights to integer grids: per tensor, channel or group, symmetric or affine, with a range that fits.

All of it is NumPy on weights with output channels first. Scales are rounded to float32 before the codes are chosen, because
that is how they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantizers.numerics import dequantize, min_max_params, quantize
from quantizers.schema import Floats, Granularity, Integers, QuantParams, Scheme

_SHRINKING = np.linspace(1.0, 0.3, 36)
"""Shares of the min-max range that a search for the least squared error tries."""
_NORM, _SHARPNESS, _SHARPENING, _HALF_QUADRATIC_STEPS = 0.7, 10.0, 1.01, 20
"""p of the norm, β, how much β grows a step, and steps: the values of the paper that `_half_quadratic` names."""
_REDUCED_BITS = 7

Rounded = tuple[Integers, QuantParams]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a technique and its options say about the grid of a weight.

    Attributes:
        affine: codes spread over the range with a zero point, not around zero; None: only those of 2 bits, because a symmetric
            grid would have three.
        fit: "minmax" keeps the whole range; "mse" and "hqq" look for a better one.
        reduce_range: 8-bit codes use 7 bits (−63…63).
    """

    group_size: int | None = None
    per_channel: bool = True
    affine: bool | None = None
    fit: str = "minmax"
    reduce_range: bool = False


def integers(weight: Floats, bits: int, choice: Choice) -> Rounded:
    """Rounds to the nearest code.

    Groups are consecutive weights of one channel and have codes of shape [channels, weights of one channel]; a channel no
    longer than a group is one.
    """
    rows = weight.reshape(len(weight) if choice.per_channel else 1, -1)
    size = min(choice.group_size or rows.shape[1], rows.shape[1])
    affine = bits == 2 if choice.affine is None else choice.affine
    scheme = Scheme.AFFINE if affine else Scheme.SYMMETRIC
    width = _REDUCED_BITS if choice.reduce_range and bits == 8 else bits
    params = min_max_params(rows, width, scheme=scheme, granularity=Granularity.PER_GROUP, group_size=size)
    params = _FITS[choice.fit](rows, _stored(replace(params, dtype=f"int{bits}")), size)
    codes = quantize(rows, params)
    if size < rows.shape[1]:
        return codes, params
    return codes.reshape(weight.shape), replace(params, axis=0 if choice.per_channel else None, group_size=None)


def _stored(params: QuantParams) -> QuantParams:
    smallest = np.finfo(np.float32).tiny
    return replace(params, scale=np.maximum(params.scale.astype(np.float32), smallest).astype(np.float64))


def _whole_range(rows: Floats, params: QuantParams, size: int) -> QuantParams:
    del rows, size
    return params


def _least_squared_error(rows: Floats, params: QuantParams, size: int) -> QuantParams:
    """Shrinks the range of each group by itself."""
    best, least = params.scale, np.full(params.scale.shape, np.inf)
    for share in _SHRINKING:
        tried = _stored(replace(params, scale=params.scale * share))
        error = _by_group((rows - dequantize(quantize(rows, tried), tried)) ** 2, size)
        best, least = np.where(error < least, tried.scale, best), np.minimum(error, least)
    return replace(params, scale=best)


def _half_quadratic(rows: Floats, params: QuantParams, size: int) -> QuantParams:
    """The scale of least Σ|w − ŵ|^0.7, which cares less for outliers than squares do, by half-quadratic splitting.

    Badri & Shaji 2023, Half-Quadratic Quantization (mobiusml.github.io/hqq_blog), with errors in steps. There the zero point
    is real and is what moves; integer files have integer zero points, so here the scale moves.
    """
    best, least, sharpness = params.scale, np.full(params.scale.shape, np.inf), _SHARPNESS
    tried = params
    for _ in range(_HALF_QUADRATIC_STEPS):
        codes = quantize(rows, tried)
        steps = dequantize(codes, replace(tried, scale=np.ones_like(tried.scale)))
        error = rows - dequantize(codes, tried)
        total = _by_group(np.abs(error) ** _NORM, size)
        best, least = np.where(total < least, tried.scale, best), np.minimum(total, least)
        scale = np.repeat(tried.scale.reshape(len(rows), -1), size, axis=1)[:, : rows.shape[1]]
        outliers = scale * _shrunk(error / scale, sharpness)
        energy = _by_group(steps**2, size)
        fitted = _by_group(steps * (rows - outliers), size) / np.maximum(energy, 1)
        tried = _stored(replace(params, scale=np.where(fitted > 0, fitted, tried.scale)))
        sharpness *= _SHARPENING
    return replace(params, scale=best)


def _shrunk(error: Floats, sharpness: float) -> NDArray[np.float64]:
    """The proximal operator of |x|^p: small errors become zero, large ones nearly stay."""
    size = np.abs(error)
    shrunk: NDArray[np.float64] = np.sign(error) * np.maximum(size - np.maximum(size, 1e-12) ** (_NORM - 1) / sharpness, 0)
    return shrunk


def _by_group(values: Floats, size: int) -> NDArray[np.float64]:
    """Sums over every group of every row, row by row."""
    sums: NDArray[np.float64] = np.add.reduceat(values, np.arange(0, values.shape[1], size), axis=1).ravel()
    return sums


_FITS: Mapping[str, Callable[[Floats, QuantParams, int], QuantParams]] = {
    "minmax": _whole_range,
    "mse": _least_squared_error,
    "hqq": _half_quadratic,
}
