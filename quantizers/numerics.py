"""The affine mathematics of quantization, exact and in NumPy: the reference everything else is tested against.

x̂ = scale · (q − zero_point), q = clamp(round_half_even(x / scale) + zero_point, qmin, qmax), as in Jacob et al. 2018
(arXiv:1712.05877). Figures carry the names and units of the field's definitions: SQNR in dB, MSE as a mean, never a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.schema import Floats, Granularity, Integers, QuantParams, Scheme

MOST_BITS = 32
WHOLE_RANGE = (1.0, 1.0)
IDEAL_RMSE_PER_STEP = 1 / np.sqrt(12)
"""RMSE ÷ scale of an ideal uniform rounder."""
TERNARY_THRESHOLD = 0.7
_TINY = float(np.finfo(np.float32).tiny)
"""The scale of a grid without a zero for values that are all zero."""


def integer_range(bits: int, *, signed: bool = True, narrow: bool = False) -> tuple[int, int]:
    """(qmin, qmax) of a `bits`-wide integer; `narrow` drops the lowest code so that the grid is symmetric."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return low + int(narrow), high


def broadcast(values: NDArray[Any], shape: tuple[int, ...], params: QuantParams) -> NDArray[Any]:
    """Spreads one value per tensor, channel or group over a tensor of `shape`."""
    if params.axis is not None:
        view = [1] * len(shape)
        view[params.axis] = -1
        return np.broadcast_to(values.reshape(view), shape)
    if params.group_size is not None:
        groups = -(-shape[-1] // params.group_size)
        spread = np.repeat(values.reshape((*shape[:-1], groups)), params.group_size, axis=-1)
        return spread[..., : shape[-1]]
    return np.broadcast_to(values.reshape(()), shape)


def quantize(x: Floats, params: QuantParams) -> Integers:
    """Integer codes of `x`, of the same shape; infinities clip. A binary grid has no code 0: zero becomes 1.

    Raises:
        BadData: a value is NaN, which has no code.
    """
    if np.isnan(x).any():
        raise BadData("NaN cannot be quantized.", "Look for the operation that produced it.")
    if is_binary(params):
        return np.asarray(np.where(x < 0, -1, 1), np.int64)
    scale, zero = (broadcast(v, x.shape, params) for v in (params.scale, params.zero_point))
    codes = np.rint(x.astype(np.float64) / scale) + zero
    return np.asarray(np.clip(codes, params.qmin, params.qmax), np.int64)


def is_binary(params: QuantParams) -> bool:
    """Whether the grid is −scale and +scale, the only symmetric one of one bit."""
    return params.dtype == "int1" and (params.qmin, params.qmax) == (-1, 1)


def dequantize(codes: Integers, params: QuantParams) -> NDArray[np.float64]:
    """The real numbers that integer `codes` stand for, in float64."""
    scale, zero = (broadcast(v, codes.shape, params) for v in (params.scale, params.zero_point))
    result: NDArray[np.float64] = (codes.astype(np.int64) - zero) * scale
    return result


def to_float(values: NDArray[Any], params: QuantParams | None) -> NDArray[np.float32]:
    """What a tensor stands for, as float32; without parameters it is float already.

    A code of up to 16 bits times a scale in float32, the type that files store, is exact before it is rounded: with one scale
    a tensor, float32 arithmetic gives the bits of float64's and takes half the memory.
    """
    if params is None:
        return values.astype(np.float32, copy=False)
    if params.scale.size > 1 or params.bits > 16:
        return dequantize(values, params).astype(np.float32)
    real: NDArray[np.float32] = values.astype(np.float32)
    real -= np.float32(params.zero_point[0])
    real *= np.float32(params.scale[0])
    return real


def min_max_params(
    x: Floats,
    bits: int,
    *,
    scheme: Scheme = Scheme.SYMMETRIC,
    granularity: Granularity = Granularity.PER_TENSOR,
    axis: int = 0,
    group_size: int = 32,
    clip: tuple[float, float] = WHOLE_RANGE,
    power_of_two: bool = False,
) -> QuantParams:
    """Parameters that cover the range of `x`, or a part of it; zero is always exactly representable.

    Symmetric grids are narrow (−127…127 at 8 bits; at 1 bit −1 and 1, without zero), affine ones use every code. A range of
    zero width gets scale 1, so that a constant zero stays exactly zero (at 1 bit the smallest scale there is).

    Args:
        bits: 1 to 32.
        clip: the parts of the range below and above zero to cover, both > 0; a symmetric grid takes the larger for both.
        power_of_two: widens each scale to the next power of two, so that scaling is a shift.

    Raises:
        BadData: a value is NaN or infinite, or bits, axis, group size or clip make no sense.
    """
    below, above = covered(scheme, clip)
    low, high = _ranges(x, granularity, axis, group_size)
    scale, zero_point, qmin, qmax = grid(low * below, high * above, bits, scheme, power_of_two=power_of_two)
    return QuantParams(
        scale=scale,
        zero_point=zero_point,
        qmin=qmin,
        qmax=qmax,
        dtype=f"int{bits}",
        axis=axis if granularity is Granularity.PER_CHANNEL else None,
        group_size=group_size if granularity is Granularity.PER_GROUP else None,
    )


def covered(scheme: Scheme, clip: tuple[float, float]) -> tuple[float, float]:
    """The parts of the range that a grid covers below and above zero when asked for `clip`.

    Raises:
        BadData: one is not above 0.
    """
    if not min(clip) > 0:
        raise BadData(f"A grid cannot cover {min(clip):g} of a range.", "Choose a part above 0.")
    return clip if scheme is Scheme.AFFINE else (max(clip), max(clip))


def grid(
    low: NDArray[np.float64], high: NDArray[np.float64], bits: int, scheme: Scheme, *, power_of_two: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.int64], int, int]:
    """Scales, zero points, qmin and qmax of grids that cover [low, high], low ≤ 0 ≤ high, as in `min_max_params`.

    Raises:
        BadData: there is no such bit width.
    """
    if not 1 <= bits <= MOST_BITS:
        raise BadData(f"{bits} bits are not possible.", f"Choose 1 to {MOST_BITS}.")
    symmetric = scheme is Scheme.SYMMETRIC
    qmin, qmax = (-1, 1) if symmetric and bits == 1 else integer_range(bits, narrow=symmetric)
    scale = np.maximum(-low, high) / qmax if symmetric else (high - low) / (qmax - qmin)
    scale = np.where(scale > 0, scale, _TINY if symmetric and bits == 1 else 1.0)
    if power_of_two:
        scale = np.exp2(np.ceil(np.log2(scale)))
    zero_point = np.zeros(scale.shape) if symmetric else np.clip(np.rint(qmin - low / scale), qmin, qmax)
    return scale, zero_point.astype(np.int64), qmin, qmax


def binary(x: Floats, axis: int = 0) -> tuple[Integers, QuantParams]:
    """Codes −1 and 1 with α the mean |x| of each channel: XNOR-Net (Rastegari et al. 2016, arXiv:1603.05279)."""
    rows = _channels(x, axis)
    return np.where(x < 0, -1, 1), _levels(np.abs(rows).mean(axis=1), "int1", axis)


def ternary(x: Floats, axis: int = 0) -> tuple[Integers, QuantParams]:
    """Codes −1, 0, 1: 0 up to 0.7 × mean |x| of the channel, α the mean |x| of the rest (Li & Liu 2016, arXiv:1605.04711)."""
    size = np.abs(_channels(x, axis))
    kept = size > TERNARY_THRESHOLD * size.mean(axis=1, keepdims=True)
    params = _levels((size * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1), "int2", axis)
    spread = np.moveaxis(kept.reshape(np.moveaxis(x, axis, 0).shape), 0, axis)
    return (np.sign(x) * spread).astype(np.int64), params


def _levels(alpha: Floats, dtype: str, axis: int) -> QuantParams:
    # As float32, as every backend stores a scale; a channel of zeros gets the smallest there is.
    scale = np.maximum(alpha.astype(np.float32), _TINY).astype(np.float64)
    return QuantParams(scale, np.zeros(1, np.int64), -1, 1, dtype, axis=axis)


def _channels(x: Floats, axis: int) -> NDArray[np.float64]:
    """[channels, values of one channel]."""
    channels = x.shape[axis]
    return np.moveaxis(x.astype(np.float64), axis, 0).reshape(channels, x.size // max(channels, 1))


def _ranges(x: Floats, granularity: Granularity, axis: int, group_size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest value of each tensor, channel or group, widened to hold zero."""
    rows = _rows(x.astype(np.float64), granularity, axis, group_size)
    if rows.shape[1] == 0:
        return np.zeros(len(rows)), np.zeros(len(rows))
    low, high = np.minimum(rows.min(axis=1), 0.0), np.maximum(rows.max(axis=1), 0.0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise BadData("The tensor holds NaN or infinity, so it has no range.", "Look for the operation that produced them.")
    return low, high


def _rows(values: NDArray[np.float64], granularity: Granularity, axis: int, group_size: int) -> NDArray[np.float64]:
    """One row for each scale; short groups are filled up with zeros."""
    if granularity is Granularity.PER_TENSOR:
        return values.reshape(1, -1)
    if granularity is Granularity.PER_CHANNEL:
        if not -values.ndim <= axis < values.ndim:
            raise BadData(
                f"A tensor of {values.ndim} dimensions has no channels along axis {axis}.", "Use one scale per tensor."
            )
        return _channels(values, axis)
    if values.ndim == 0 or group_size < 1:
        raise BadData(f"A tensor of {values.ndim} dimensions has no groups of {group_size}.", "Use one scale per tensor.")
    padding = -values.shape[-1] % group_size
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)]).reshape(-1, group_size)


@dataclass(frozen=True, slots=True)
class TensorError:
    """Error of x̂ against x. Figures that do not apply are None.

    Attributes:
        sqnr_db: 10·log10(Σx² / Σ(x−x̂)²); None when there is no error at all (`exact`) or no signal.
        mse: mean (x−x̂)².
        cosine: cosine similarity of the flattened tensors; None when one of them is all zero.
        max_abs: largest |x−x̂|.
        rmse_per_step: RMSE ÷ scale (root of the mean of squared errors each divided by its own scale).
        clipping_share: part of Σ(x−x̂)² where x lies outside [scale·(qmin−zp), scale·(qmax−zp)], 0 to 1; the rest is rounding.
        levels_used: distinct codes present ÷ codes available.
    """

    sqnr_db: float | None
    exact: bool
    mse: float
    cosine: float | None
    max_abs: float
    rmse_per_step: float | None = None
    clipping_share: float | None = None
    levels_used: float | None = None


def tensor_error(x: Floats, x_hat: Floats) -> TensorError:
    """Error figures of any two tensors of one shape.

    Raises:
        BadData: they have no element.
    """
    if x.size == 0:
        raise BadData("A tensor without values has no error.", "Leave it out.")
    reference, estimate = x.astype(np.float64).ravel(), x_hat.astype(np.float64).ravel()
    error = reference - estimate
    pairs = (error, error), (reference, reference), (estimate, estimate), (reference, estimate)
    # Sums, not BLAS dot products: those start threads, which wait milliseconds for each other where cores are busy.
    noise, signal, energy, common = (float((a * b).sum()) for a, b in pairs)
    norms = float(np.sqrt(signal) * np.sqrt(energy))
    return TensorError(
        sqnr_db=float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else None,
        exact=noise == 0,
        mse=noise / reference.size,
        cosine=float(np.clip(common / norms, -1.0, 1.0)) if norms > 0 else None,
        max_abs=float(np.abs(error).max()),
    )


def quantization_error(x: Floats, codes: Integers, params: QuantParams) -> TensorError:
    """`tensor_error` of `x` against its `codes`, plus the figures that need the grid."""
    x_hat = dequantize(codes, params)
    plain = tensor_error(x, x_hat)
    scale, zero = (broadcast(v, x.shape, params) for v in (params.scale, params.zero_point))
    values = x.astype(np.float64)
    squared = (values - x_hat) ** 2
    total = float(squared.sum())
    outside = (values < (params.qmin - zero) * scale) | (values > (params.qmax - zero) * scale)
    return TensorError(
        sqnr_db=plain.sqnr_db,
        exact=plain.exact,
        mse=plain.mse,
        cosine=plain.cosine,
        max_abs=plain.max_abs,
        rmse_per_step=float(np.sqrt((squared / scale**2).mean())),
        clipping_share=float(squared[outside].sum() / total) if total > 0 else 0.0,
        levels_used=np.unique(codes).size / (2 if is_binary(params) else params.qmax - params.qmin + 1),
    )
