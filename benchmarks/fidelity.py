"""Fidelity: how far every layer of a quantized model is from float, in its weight and in its output.

Outputs are compared batch by batch, and only sums are kept, so memory does not grow with the data. The quantized model runs
as it is: the error of an output is the cumulative one, of everything quantized up to and including the layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.size import type_bits
from quantizers.adapter import Batch
from quantizers.errors import QuantizationError
from quantizers.numerics import quantization_error, tensor_error
from quantizers.schema import QuantizedLayer, QuantizedTensor

EXACT = "exact"
NO_SIGNAL = "the float values are all zero"
NO_DIRECTION = "a tensor of zeros has no direction"
NO_GRID = "not stored as integers"


@dataclass(frozen=True, kw_only=True)
class TensorReport:
    """A tensor's type and, where it is on an integer grid, its parameters; `scale` and `zero_point` are parallel lists."""

    dtype: str
    bits: int
    scheme: str | None
    granularity: str | None
    axis: int | None
    group_size: int | None
    scale: list[float] | None
    scale_why_not: str | None
    zero_point: list[int] | None
    zero_point_why_not: str | None
    qmin: int | None
    qmax: int | None


@dataclass(frozen=True, kw_only=True)
class ErrorReport:
    """Error against float; `cosine` of a weight is of the flattened tensor, of an output the mean over samples."""

    sqnr_db: float | None
    sqnr_db_why_not: str | None
    mse: float
    cosine: float | None
    cosine_why_not: str | None
    max_abs: float


@dataclass(frozen=True, kw_only=True)
class WeightReport(TensorReport, ErrorReport):
    """A weight and its error; the figures that need a grid are those of `quantizers.numerics.TensorError`."""

    shape: list[int]
    rmse_per_step: float | None
    rmse_per_step_why_not: str | None
    clipping_share: float | None
    clipping_share_why_not: str | None
    levels_used: float | None
    levels_used_why_not: str | None


@dataclass(frozen=True, kw_only=True)
class OutputReport(TensorReport, ErrorReport):
    """A layer's output: the type and grid it is handed on in, and its error."""


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """A layer as a RUN's JSON holds it; `output` is None where there is nothing to compare."""

    name: str
    native_name: str
    op: str
    quantized: bool
    why_not: str | None
    runs_in: str
    weight: WeightReport
    bias: TensorReport | None
    inputs: list[TensorReport]
    output: OutputReport | None
    output_why_not: str | None


class ErrorSums:
    """Running sums of the error between two streams of batches [N, …], in float64."""

    def __init__(self) -> None:
        self._signal = self._noise = self._cosines = self._max_abs = 0.0
        self._values = self._directed = 0

    def add(self, reference: Batch, estimate: Batch, what: str) -> tuple[float, float]:
        """Takes in one batch of both, of at least one value; `what` names them in errors. Returns the least and greatest value.

        Raises:
            ValueError: the shapes differ.
            QuantizationError: a value is NaN or infinite.
        """
        from benchmarks._kernels import pair_sums

        if reference.shape != estimate.shape:
            raise ValueError(f"{what}: float has shape {reference.shape}, quantized {estimate.shape}")
        x, x_hat = (np.ascontiguousarray(rows, np.float32) for rows in _rows(reference, estimate))
        rows = np.empty((len(x), 9))
        pair_sums(x, x_hat, rows)
        require_finite(what, rows[:, :5])
        energy, noise, common, other, greatest, *extremes = rows.T
        norms = np.sqrt(energy) * np.sqrt(other)
        directed = norms > 0
        self._signal += float(energy.sum())
        self._noise += float(noise.sum())
        self._cosines += float(np.clip(common[directed] / norms[directed], -1.0, 1.0).sum())
        self._max_abs = max(self._max_abs, float(greatest.max()))
        self._values += x.size
        self._directed += int(directed.sum())
        return float(min(extremes[0].min(), extremes[2].min())), float(max(extremes[1].max(), extremes[3].max()))

    def figures(self) -> ErrorReport:
        """The figures of everything taken in so far: at least one value."""
        return _error_report(
            sqnr_db=float(10 * np.log10(self._signal / self._noise)) if self._signal > 0 and self._noise > 0 else None,
            exact=self._noise == 0,
            mse=self._noise / self._values,
            cosine=self._cosines / self._directed if self._directed else None,
            max_abs=self._max_abs,
        )


def _rows(*tensors: Batch) -> list[Batch]:
    """[N, values of a sample] of tensors of one shape; without a copy where memory holds them in one order."""
    order = np.argsort([-stride for stride in tensors[0].strides[1:]], kind="stable") + 1
    if all(tensor.strides == tensors[0].strides for tensor in tensors):
        tensors = tuple(tensor.transpose(0, *order) for tensor in tensors)
    return [tensor.reshape(len(tensor), -1) for tensor in tensors]


def require_finite(what: str, *tensors: NDArray[Any]) -> None:
    """Stops figures from being made of numbers that are none.

    Raises:
        QuantizationError: a value is NaN or infinite.
    """
    if not all(np.isfinite(values).all() for values in tensors):
        raise QuantizationError(f"{what} holds NaN or infinity.", "Check the model's weights and the range of its input.")


def _error_report(sqnr_db: float | None, exact: bool, mse: float, cosine: float | None, max_abs: float) -> ErrorReport:
    return ErrorReport(
        sqnr_db=sqnr_db,
        sqnr_db_why_not=None if sqnr_db is not None else EXACT if exact else NO_SIGNAL,
        mse=mse,
        cosine=cosine,
        cosine_why_not=NO_DIRECTION if cosine is None else None,
        max_abs=max_abs,
    )


def layer_report(layer: QuantizedLayer, error: ErrorReport | None, absent: str) -> LayerReport:
    """What became of a layer, with the error of its output; without one, `absent` says why.

    Raises:
        QuantizationError: a value of its weight is NaN or infinite.
    """
    output = None
    if error is not None:
        assert layer.output is not None, f"{layer.name} hands nothing on"
        output = OutputReport(**vars(tensor_report(layer.output)), **vars(error))
    return LayerReport(
        name=layer.name,
        native_name=layer.native_name,
        op=layer.op,
        quantized=layer.quantized,
        why_not=layer.why_not,
        runs_in=layer.runs_in,
        weight=weight_report(layer.weight),
        bias=tensor_report(layer.bias) if layer.bias else None,
        inputs=[tensor_report(tensor) for tensor in layer.inputs],
        output=output,
        output_why_not=absent if output is None else None,
    )


def tensor_report(tensor: QuantizedTensor) -> TensorReport:
    """Type and grid of a tensor."""
    params = tensor.params
    why_not = None if params else f"kept in {tensor.dtype}"
    return TensorReport(
        dtype=tensor.dtype,
        bits=type_bits(tensor.dtype),
        scheme=params.scheme.value if params else None,
        granularity=params.granularity.value if params else None,
        axis=params.axis if params else None,
        group_size=params.group_size if params else None,
        scale=params.scale.tolist() if params else None,
        scale_why_not=why_not,
        zero_point=params.zero_point.tolist() if params else None,
        zero_point_why_not=why_not,
        qmin=params.qmin if params else None,
        qmax=params.qmax if params else None,
    )


def weight_report(weight: QuantizedTensor) -> WeightReport:
    """Type, grid and error of a weight.

    Raises:
        QuantizationError: a value is NaN or infinite.
    """
    codes, reference, params = weight.codes, weight.reference, weight.params
    assert codes is not None
    assert reference is not None
    require_finite(f"The weight of {weight.layer}", codes, reference)
    error = quantization_error(reference, codes, params) if params else tensor_error(reference, codes)
    no_grid = None if params else NO_GRID
    return WeightReport(
        **vars(tensor_report(weight)),
        **vars(_error_report(error.sqnr_db, error.exact, error.mse, error.cosine, error.max_abs)),
        shape=list(codes.shape),
        rmse_per_step=error.rmse_per_step,
        rmse_per_step_why_not=no_grid,
        clipping_share=error.clipping_share,
        clipping_share_why_not=no_grid,
        levels_used=error.levels_used,
        levels_used_why_not=no_grid,
    )
