"""How pixels become what a model takes: a visible, remembered choice, for it decides up to 20 points of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import InputError
from quantizers.signature import Layout

Images = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Pixels [N, H, W, C] become (x − offset) ÷ divisor, by channel or with one number for all.

    Attributes:
        bgr: whether the model takes blue, green, red; offset and divisor are then in that order.
        layout: where the model takes the channels; None leaves it to the shape of its input.
        label_offset: added to a label to find its class: 1 for models whose class 0 is “background” (1001 classes).
    """

    offset: tuple[float, ...] = (0.0,)
    divisor: tuple[float, ...] = (255.0,)
    bgr: bool = False
    layout: Layout | None = None
    label_offset: int = 0

    def __post_init__(self) -> None:
        if not self.offset or not self.divisor or not np.isfinite([*self.offset, *self.divisor]).all() or 0 in self.divisor:
            raise InputError("Offset and divisor must be finite numbers, and no divisor may be 0.", "E.g. 127.5 and 127.5.")

    @classmethod
    def from_mean_std(cls, mean: Sequence[float], std: Sequence[float], **choices: Any) -> Preprocessing:
        """That of models which take (x ÷ 255 − mean) ÷ std."""
        return cls(tuple(255 * value for value in mean), tuple(255 * value for value in std), **choices)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Preprocessing:
        layout = stored["layout"]
        return cls(
            tuple(map(float, stored["offset"])),
            tuple(map(float, stored["divisor"])),
            bool(stored["bgr"]),
            None if layout is None else Layout(layout),
            int(stored["label_offset"]),
        )

    def apply(self, x: Images) -> NDArray[np.float32]:
        """uint8 pixels as the model takes them; float data counts as preprocessed already and is left as it is."""
        if x.dtype != np.uint8:
            return x.astype(np.float32, copy=False)
        pixels = x[..., ::-1] if self.bgr else x
        return (pixels.astype(np.float32) - _values(self.offset)) / _values(self.divisor)


UNIT_RANGE = Preprocessing()
"""Pixels from 0 to 1, as the networks trained here take them."""


def _values(numbers: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(numbers if len(numbers) > 1 else numbers[0], np.float32)
