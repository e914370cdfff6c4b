"""Squarified treemaps: areas as rectangles that fill one, none of them thinner than it must be.

Rectangles are laid in rows along the shorter side of what is left. A row takes one more as long as that makes the
thinnest of the row less thin (Bruls, Huizing and van Wijk, 2000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Rect(NamedTuple):
    """A rectangle by its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, by: float) -> Rect:
        """Make it smaller on all sides; at least nothing is left of it."""
        width, height = max(self.width - 2 * by, 0.0), max(self.height - 2 * by, 0.0)
        return Rect(self.x + (self.width - width) / 2, self.y + (self.height - height) / 2, width, height)


def squarify(areas: Sequence[float], within: Rect) -> list[Rect]:
    """Give each area its share of ``within``; areas are greater than 0, largest first."""
    if not areas:
        return []
    scale = within.width * within.height / sum(areas)
    scaled = [area * scale for area in areas]
    rects: list[Rect] = []
    left = within
    while len(rects) < len(scaled):
        if not left.width * left.height:  # nothing was given, or too little is left to be told from nothing
            return rects + [left] * (len(scaled) - len(rects))
        row = _row(scaled, len(rects), min(left.width, left.height))
        laid, left = _lay(row, left)
        rects += laid
    return rects


def _row(areas: Sequence[float], first: int, side: float) -> Sequence[float]:
    """Choose how many go into the next row."""
    total, thinnest, end = areas[first], _thinness(areas[first], areas[first], areas[first], side), first + 1
    while end < len(areas):
        longer = total + areas[end]
        with_it = _thinness(areas[first], areas[end], longer, side)
        if with_it > thinnest:
            break
        total, thinnest, end = longer, with_it, end + 1
    return areas[first:end]


def _thinness(largest: float, smallest: float, total: float, side: float) -> float:
    """Say how many times longer than wide the thinnest of a row is."""
    thickness = total / side
    return max(thickness * thickness / smallest, largest / (thickness * thickness))


def _lay(row: Sequence[float], left: Rect) -> tuple[list[Rect], Rect]:
    """Lay a row along the shorter side; give it and what is left then."""
    total, at, rects = sum(row), 0.0, []
    if left.width >= left.height:
        thickness = min(total / left.height, left.width)
        for area in row:
            length = left.height * area / total
            rects.append(Rect(left.x, left.y + at, thickness, length))
            at += length
        return rects, Rect(left.x + thickness, left.y, left.width - thickness, left.height)
    thickness = min(total / left.width, left.height)
    for area in row:
        length = left.width * area / total
        rects.append(Rect(left.x + at, left.y, length, thickness))
        at += length
    return rects, Rect(left.x, left.y + thickness, left.width, left.height - thickness)
