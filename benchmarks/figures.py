"""Which pictures there are, of what they are drawn, and where documents show them.

A document says ``<!-- picture FILE: what it shows -->`` and ``<!-- /picture -->``; between the two the picture appears
when it has been drawn.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.plot import Plot, Series
from benchmarks.results import RESULTS, newest

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Run

_GIGABIT = 1e9
_PLACE = re.compile(r"(<!-- picture (\S+): (.*?) -->\n).*?(<!-- /picture -->)", re.DOTALL)


class _Curves(NamedTuple):
    """One measure of a benchmark over the round trip, at 1 Gbit/s; ``names`` of subjects as the picture has them."""

    file: str
    benchmark: str
    measure: str
    title: str
    names: dict[str, str]

    def plot(self, run: Run) -> Plot | None:
        """Draw what there is of it: a line needs two points."""
        lines = [Series(name, self._points(run, subject)) for subject, name in self.names.items()]
        lines = [line for line in lines if len(line.points) > 1]
        return Plot(self.title, "round trip, ms", "seconds", lines) if lines else None

    def _points(self, run: Run, subject: str) -> list[tuple[float, float]]:
        wanted = (row for row in run.rows if (row.subject, row.measure) == (subject, self.measure))
        links = ((row.link, row.median) for row in wanted)
        return sorted((link.rtt_s * 1e3, median) for link, median in links if link and link.bits_per_s == _GIGABIT)


_B1_NAMES = {
    "narfs sealed": "narfs, first start",
    "narfs sealed, profile": "narfs, with profile",
    "nix 2.26 copy zstd": "nix copy",
    "rclone": "rclone",
    "squashfuse on rclone": "squashfuse on rclone",
    "ratarmount on rclone": "ratarmount on rclone",
    "casync": "casync",
}

FIGURES = (
    _Curves(
        "b1-start-and-run.svg",
        "b1",
        "start and cold run",
        "Mount a closure of 160 MB and run its Python, nothing cached, 1 Gbit/s",
        _B1_NAMES,
    ),
    _Curves(
        "b1-run.svg",
        "b1",
        "cold run",
        "The same without the time until the mount answers",
        _B1_NAMES,
    ),
    _Curves(
        "b5-link.svg",
        "b5-link",
        "read",
        "Read a file of 500 MB from a far sealed lake, nothing cached, 1 Gbit/s",
        {"narfs sealed": "narfs", "curl | zstd -d": "curl | zstd -d, not checked"},
    ),
)


def draw(folder: Path = RESULTS) -> list[Path]:
    """Draw every picture that has been measured; gives the files."""
    drawn = []
    for figure in FIGURES:
        run = newest(figure.benchmark, folder)
        if run is not None and (plot := figure.plot(run)) is not None:
            (folder / figure.file).write_text(plot.svg(), encoding="utf-8")
            drawn.append(folder / figure.file)
    return drawn


def show(document: Path, folder: Path = RESULTS) -> None:
    """Let a document show the pictures there are."""

    def picture(place: re.Match[str]) -> str:
        begin, name, text, end = place.groups()
        file = os.path.relpath(folder / name, document.parent)
        return f"{begin}\n![{text}]({file})\n\n{end}" if (folder / name).exists() else place[0]

    said = document.read_text(encoding="utf-8")
    document.write_text(_PLACE.sub(picture, said), encoding="utf-8")
