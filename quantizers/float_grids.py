"""The grids of small floating-point types: to which value a number is rounded when it is stored in one.

A format is its exponent and mantissa bits; rounding is half to even, subnormals are kept, and what is too large saturates at
the largest finite value, as quantizers do (a cast by IEEE 754 would give infinity). The 8-bit formats are those of the Open
Compute Project's OFP8 specification: E4M3 has no infinity and reaches 448, E5M2 is a shortened float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.schema import Floats


@dataclass(frozen=True, slots=True)
class FloatGrid:
    """A floating-point type.

    Attributes:
        mantissa: stored bits of the fraction.
        lowest_exponent: of the smallest normal number.
        largest: the largest finite value.
    """

    name: str
    bits: int
    mantissa: int
    lowest_exponent: int
    largest: float

    def round(self, x: Floats, scale: Floats | float = 1.0) -> NDArray[np.float64]:
        """The value of scale × this grid nearest to each value of `x`; `scale` broadcasts against it. Infinities saturate.

        Raises:
            BadData: a value is NaN.
        """
        values = x.astype(np.float64) / scale
        if np.isnan(values).any():
            raise BadData("NaN cannot be quantized.", "Look for the operation that produced it.")
        values = np.clip(values, -self.largest, self.largest)
        _, exponent = np.frexp(values)  # |value| is in [2^(exponent − 1), 2^exponent)
        spacing = np.exp2(np.maximum(exponent - 1, self.lowest_exponent) - self.mantissa)
        result: NDArray[np.float64] = np.clip(np.rint(values / spacing) * spacing, -self.largest, self.largest) * scale
        return result


FLOAT_GRIDS: Mapping[str, FloatGrid] = MappingProxyType(
    {
        grid.name: grid
        for grid in (
            FloatGrid("float16", 16, 10, -14, 65504.0),
            FloatGrid("bfloat16", 16, 7, -126, float(2**128 - 2**120)),
            FloatGrid("float8_e4m3", 8, 3, -6, 448.0),
            FloatGrid("float8_e5m2", 8, 2, -14, 57344.0),
        )
    }
)
