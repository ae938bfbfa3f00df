"""A measured number of the suite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """`target` is what the project aims at, None for a figure that only informs."""

    value: float
    unit: str
    target: float | None = None


Figures = dict[str, Figure]
