"""How calibration turns activations into a range: torchao's observers, and one it does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver

from quantizers.schema import Floats

TAIL = 1e-4
"""Share of the values of a minibatch that `PercentileObserver` leaves out on either side."""


class PercentileObserver(MinMaxObserver):  # type: ignore[misc]  # torchao has no types
    """The range between the 0.01st and the 99.99th percentile of a minibatch, as the mean over minibatches."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._bounds: list[Floats] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._bounds.append(np.quantile(x.detach().numpy(), (TAIL, 1 - TAIL)))
        self.min_val, self.max_val = torch.from_numpy(np.mean(self._bounds, axis=0).astype(np.float32))
        return x


OBSERVERS = {
    "histogram": HistogramObserver,
    "minmax": MinMaxObserver,
    "moving_average": MovingAverageMinMaxObserver,
    "percentile": PercentileObserver,
}
