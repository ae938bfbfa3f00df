"""Direct labels that do not collide: each takes the first free place around its mark, or none.

Works in pixels of a plot of an assumed size: labels that fit there also fit a wider one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CHARACTER_WIDTH = 6.6
LINE_HEIGHT = 14.0
MARK_RADIUS = 8.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label stands from its mark: Plotly's anchor, and the shift of that anchor in pixels, y upwards."""

    anchor: str
    dx: float
    dy: float


PLACES = (
    Place("left", 10, 0),
    Place("right", -10, 0),
    Place("left", 6, 16),
    Place("left", 6, -16),
    Place("right", -6, 16),
    Place("right", -6, -16),
    Place("center", 0, 17),
    Place("center", 0, -17),
)


@dataclass(frozen=True, slots=True)
class Box:
    left: float
    right: float
    bottom: float
    top: float

    def overlaps(self, other: Box) -> bool:
        return self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top

    def within(self, width: float, height: float) -> bool:
        return self.left >= 0 and self.right <= width and self.bottom >= 0 and self.top <= height


def place(
    marks: Sequence[tuple[float, float]], texts: Sequence[str], width: float, height: float, must: int = 0
) -> list[Place | None]:
    """A place for each text beside its mark, earlier ones first; None where all are taken.

    Args:
        marks: pixel positions, y upwards.
        must: so many of the first texts get the least crowded place even if none is free.
    """
    taken = [Box(x - MARK_RADIUS, x + MARK_RADIUS, y - MARK_RADIUS, y + MARK_RADIUS) for x, y in marks]
    places: list[Place | None] = []
    for number, (mark, text) in enumerate(zip(marks, texts, strict=True)):
        inside = [(c, box) for c in PLACES if (box := _box(mark, text, c)).within(width, height)]
        crowded = [sum(box.overlaps(other) for other in taken) for _, box in inside]
        found = inside[crowded.index(min(crowded))] if inside and (number < must or 0 in crowded) else None
        places.append(found[0] if found else None)
        taken += [found[1]] if found else []
    return places


def _box(mark: tuple[float, float], text: str, where: Place) -> Box:
    width = CHARACTER_WIDTH * len(text)
    x, y = mark[0] + where.dx, mark[1] + where.dy
    left = {"left": x, "right": x - width, "center": x - width / 2}[where.anchor]
    return Box(left, left + width, y - LINE_HEIGHT / 2, y + LINE_HEIGHT / 2)
