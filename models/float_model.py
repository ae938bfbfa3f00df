"""A float model of the zoo: one set of weights, one architecture, and its form in each framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FloatModel:
    """Placeholder of the contract; the zoo fills it in."""

    weights: Mapping[str, NDArray[np.float32]]

    def torch_module(self) -> Any:
        """An eval-mode nn.Module taking [N, C, H, W] float32; submodules carry the layer names."""
        raise NotImplementedError

    def keras_model(self) -> Any:
        """A keras.Model taking [N, H, W, C] float32; layers carry the layer names; ends in logits."""
        raise NotImplementedError
