"""Tables in Markdown, written into documents between two comments that say which.

``<!-- table b1 by link: cold run -->`` has a row for each subject and a column for each link, of one measure; ``b1
ratios by link`` the same of the ratios. ``b4 by subject: find -ls, cold; stat, cold`` has a row for each measure and a
column for each subject and ratio, of all measures if it names none. ``b1 lacks`` says of competitors what the times do
not. ``<!-- /table -->`` ends each.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.competitors import competitors
from benchmarks.results import Result, Run, newest

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.proxy import Link

_PLACE = re.compile(r"(<!-- table (\S+) ([^:]+?)(?:: (.*?))? -->\n).*?(<!-- /table -->)", re.DOTALL)


def fill(document: Path, read: Callable[[str], Run | None] = newest) -> None:
    """Write all tables of a document anew; what was not measured keeps what is there."""

    def table(place: re.Match[str]) -> str:
        begin, benchmark, form, measures, end = place.groups()
        run = read(benchmark)
        lines = _FORMS[form](run, measures.split("; ") if measures else run.measures()) if run else []
        return f"{begin}\n{_markdown(lines)}\n{_when(run)}\n{end}" if run and len(lines) > 1 else place[0]

    text = document.read_text(encoding="utf-8")
    document.write_text(_PLACE.sub(table, text), encoding="utf-8")


def _by_link(run: Run, measures: list[str], *, ratios: bool = False) -> list[list[str]]:
    rows = [row for row in run.rows if row.link and row.measure in measures and row.is_ratio == ratios]
    links = _in_order({row.link for row in rows if row.link})
    lines = [[rows[0].unit if rows and not ratios else "", *map(str, links)]]
    for measure in measures:
        for subject in dict.fromkeys(row.subject for row in rows if row.measure == measure):
            name = f"{subject}, {measure}" if len(measures) > 1 else subject
            lines.append([name, *(_cell(run.find(subject, measure, link)) for link in links)])
    return lines


def _in_order(links: set[Link]) -> list[Link]:
    """Put the bandwidth with most links first, each by its round trips."""
    links_of = Counter(link.bits_per_s for link in links)
    return sorted(links, key=lambda link: (-links_of[link.bits_per_s], -link.bits_per_s, link.rtt_s))


def _by_subject(run: Run, measures: list[str]) -> list[list[str]]:
    rows = [row for row in run.rows if row.measure in measures]
    subjects = list(dict.fromkeys(row.subject for row in rows))
    lines = [["", *subjects]]
    for measure, link in dict.fromkeys((row.measure, row.link) for row in rows):
        found = [run.find(subject, measure, link) for subject in subjects]
        unit = next((row.unit for row in found if row is not None and not row.is_ratio), "")
        lines.append([", ".join(filter(None, (measure, str(link or ""), unit))), *map(_cell, found)])
    return lines


def _lacks(run: Run, _: list[str]) -> list[list[str]]:
    there = {row.subject for row in run.rows}
    every = competitors("", ("rclone", "squashfs", "tar", "casync"), Path())
    return [["", "what it lacks"], *([other.name, other.lacks] for other in every if other.name in there)]


_FORMS: dict[str, Callable[[Run, list[str]], list[list[str]]]] = {
    "by link": _by_link,
    "ratios by link": partial(_by_link, ratios=True),
    "by subject": _by_subject,
    "lacks": _lacks,
}


def _cell(row: Result | None) -> str:
    """Give a median with its spread, bold where it misses its target."""
    if row is None:
        return ""
    if row.target is None:
        return str(row)
    said = f"{row} (≤ {row.target:g})"
    return said if row.median <= row.target else f"**{said}**"


def _markdown(lines: list[list[str]]) -> str:
    every = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in every)


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")


def _when(run: Run) -> str:
    load = "" if math.isnan(run.load) else f"load {run.load:.1f} before it; "
    return f"Measured {run.date[:10]}, {load}median of up to {run.parameters['runs']} (least to most).\n"
