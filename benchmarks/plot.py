"""Curves as SVG: small, the same bytes for the same numbers, readable on a light and on a dark page.

Both axes are logarithmic, so a constant ratio is a constant distance. Each line is named at its end, in its colour.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 200, 44, 44
_LABEL_PX = 15
_COLOURS = ("#1a7fd0", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7f7f7f", "#8c564b")
"""Told apart also by those who see fewer colours (after Okabe and Ito), and clear on white and on black."""

_STYLE = """\
text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:14px;font-weight:600}.page{fill:#fff}
.grid{stroke:#ddd;stroke-width:1}.line{fill:none;stroke-width:2.2}.name{font-weight:600}
@media(prefers-color-scheme:dark){text{fill:#ccc}.page{fill:#0d1117}.grid{stroke:#333}}"""


class Series(NamedTuple):
    """One line: its name and its points, in the order of their x."""

    name: str
    points: Sequence[tuple[float, float]]


class Plot(NamedTuple):
    """Some lines over one another, with what their axes mean."""

    title: str
    x_name: str
    y_name: str
    series: Sequence[Series]

    def svg(self) -> str:
        """Draw it."""
        xs = _Axis.over([x for line in self.series for x, _ in line.points], _LEFT, _WIDTH - _RIGHT)
        ys = _Axis.over([y for line in self.series for _, y in line.points], _HEIGHT - _BOTTOM, _TOP)
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{_STYLE}</style>",
                f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>',
                _text(_LEFT, 22, self.title, kind="title"),
                *self._grid(xs, ys),
                *self._lines(xs, ys),
                "</svg>\n",
            )
        )

    def _grid(self, xs: _Axis, ys: _Axis) -> Iterator[str]:
        for x in sorted({x for line in self.series for x, _ in line.points}):
            at = xs.place(x)
            yield f'<path class="grid" d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
            yield _text(at, _HEIGHT - _BOTTOM + 16, f"{x:g}", anchor="middle")
        for y in ys.ticks():
            at = ys.place(y)
            yield f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>'
            yield _text(_LEFT - 6, at + 4, f"{y:g}", anchor="end")
        yield _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, self.x_name, anchor="middle")
        yield _text(_LEFT, _TOP - 6, self.y_name)

    def _lines(self, xs: _Axis, ys: _Axis) -> Iterator[str]:
        ends = [ys.place(line.points[-1][1]) for line in self.series]
        for number, (line, label) in enumerate(zip(self.series, spread(ends, _LABEL_PX), strict=True)):
            colour = _COLOURS[number % len(_COLOURS)]
            places = [(xs.place(x), ys.place(y)) for x, y in line.points]
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            yield f'<path class="line" stroke="{colour}" d="M{path}"/>'
            for x, y in places:
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            yield _text(places[-1][0] + 10, label + 4, line.name, kind="name", colour=colour)


class _Axis(NamedTuple):
    """Where a value lies between two pixels."""

    low: float
    high: float
    start_px: float
    end_px: float

    @classmethod
    def over(cls, values: Sequence[float], start_px: float, end_px: float) -> _Axis:
        return cls(min(values) / 1.15, max(values) * 1.15, start_px, end_px)

    def place(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start_px + share * (self.end_px - self.start_px)

    def ticks(self) -> list[float]:
        """Give 1, 2, 5, 10, … as far as they are on the axis."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        return [tick for tick in every if self.low <= tick <= self.high]


def spread(places: Sequence[float], least: float) -> list[float]:
    """Move labels down, in their order, until each is ``least`` from the one above."""
    moved = list(places)
    above = -math.inf
    for number in sorted(range(len(places)), key=lambda number: (places[number], number)):
        moved[number] = above = max(places[number], above + least)
    return moved


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start", colour: str = "") -> str:
    style = f' style="fill:{colour}"' if colour else ""
    named = f' class="{kind}"' if kind else ""
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}{where}{style}>{escape(text)}</text>'
