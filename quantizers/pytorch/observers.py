"""How calibration turns activations into a range: torchao's observers, and those it does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchao.quantization.pt2e import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
)

from quantizers.schema import Floats

TAIL = 1e-4
"""Share of the values of a minibatch that `PercentileObserver` leaves out on either side."""

SHARES = tuple(np.linspace(1.0, 0.3, 36))
"""Shares of the range that `MseObserver` tries, on at most `MOST_VALUES` values of a minibatch, evenly chosen."""
MOST_VALUES = 1 << 16


class PercentileObserver(MinMaxObserver):  # type: ignore[misc]  # torchao has no types
    """The range between the 0.01st and the 99.99th percentile of a minibatch, as the mean over minibatches."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._bounds: list[Floats] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._bounds.append(np.quantile(x.detach().numpy(), (TAIL, 1 - TAIL)))
        self.min_val, self.max_val = torch.from_numpy(np.mean(self._bounds, axis=0).astype(np.float32))
        return x


class MseObserver(MinMaxObserver):  # type: ignore[misc]  # torchao has no types
    """The share of a minibatch's range that rounds with the least squared error, as the mean over minibatches."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._bounds: list[tuple[float, float]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = x.detach().flatten()
        values = values[:: max(1, len(values) // MOST_VALUES)]
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        errors = [self._squared_error(values, low * share, high * share) for share in SHARES]
        share = SHARES[int(np.argmin(errors))]
        self._bounds.append((low * share, high * share))
        self.min_val, self.max_val = torch.from_numpy(np.mean(self._bounds, axis=0).astype(np.float32))
        return x

    def _squared_error(self, values: torch.Tensor, low: float, high: float) -> float:
        """Of rounding to the grid that this observer makes of a range."""
        scale, zero_point = self._calculate_qparams(torch.tensor(low), torch.tensor(high))
        rounded = torch.fake_quantize_per_tensor_affine(values, scale, zero_point.int(), self.quant_min, self.quant_max)
        return float(((values - rounded) ** 2).sum())


class WeightObserver(PerChannelMinMaxObserver):  # type: ignore[misc]  # torchao has no types
    """The range of a weight as it is now: in training it moves, and a range that only grows would stay too wide."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.reset_min_max_vals()
        observed: torch.Tensor = super().forward(x)
        return observed


OBSERVERS = {
    "histogram": HistogramObserver,
    "minmax": MinMaxObserver,
    "moving_average": MovingAverageMinMaxObserver,
    "percentile": PercentileObserver,
    "mse": MseObserver,
}
