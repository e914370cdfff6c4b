"""Tables in Markdown, written into documents between two comments that say which.

``<!-- table b1 by link: cold run -->`` has a row for each subject and a column for each link of one measure;
``<!-- table b4 by subject: find -ls, cold; stat, cold -->`` a row for each measure and a column for each subject, all
measures if it names none; ``by ratio`` is the same of the ratios, which the other two leave out;
``<!-- table b1 lacks -->`` says of competitors what the times do not. ``<!-- /table -->`` ends each.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.competitors import competitors
from benchmarks.results import Result, Run, newest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PLACE = re.compile(r"(<!-- table (\S+) ([^:]+?)(?:: (.*?))? -->\n).*?(<!-- /table -->)", re.DOTALL)


def fill(document: Path, read: Callable[[str], Run | None] = newest) -> None:
    """Write all tables of a document anew; what was never measured keeps what is there."""

    def table(place: re.Match[str]) -> str:
        begin, benchmark, form, measures, end = place.groups()
        run = read(benchmark)
        if run is None:
            return place[0]
        return f"{begin}{_FORMS[form](run, measures.split('; ') if measures else run.measures())}{_when(run)}\n{end}"

    text = document.read_text(encoding="utf-8")
    document.write_text(_PLACE.sub(table, text), encoding="utf-8")


def _by_link(run: Run, measures: list[str]) -> str:
    rows = [row for row in run.rows if row.link is not None and row.measure in measures and "÷" not in row.subject]
    links = sorted({row.link for row in rows if row.link is not None}, key=lambda link: (-link.bits_per_s, link.rtt_s))
    lines = []
    for measure in measures:
        for subject in dict.fromkeys(row.subject for row in rows if row.measure == measure):
            name = f"{subject}, {measure}" if len(measures) > 1 else subject
            lines.append([name, *(_cell(run.find(subject, measure, link)) for link in links)])
    return _markdown([f"{rows[0].unit}" if rows else "", *map(str, links)], lines)


def _by_subject(run: Run, measures: list[str], *, ratios: bool = False) -> str:
    rows = [row for row in run.rows if row.measure in measures and ("÷" in row.subject) == ratios]
    subjects = list(dict.fromkeys(row.subject for row in rows))
    lines = []
    for measure in dict.fromkeys(row.measure for row in rows):
        for link in dict.fromkeys(row.link for row in rows if row.measure == measure):
            found = [run.find(subject, measure, link) for subject in subjects]
            unit = next(row.unit for row in found if row is not None)
            name = measure if ratios or not unit else f"{measure}, {unit}"
            lines.append([f"{name}, {link}" if link else name, *map(_cell, found)])
    return _markdown(["", *subjects], lines)


def _by_ratio(run: Run, measures: list[str]) -> str:
    return _by_subject(run, measures, ratios=True)


def _lacks(run: Run, _: list[str]) -> str:
    there = {row.subject for row in run.rows}
    every = competitors("", ("rclone", "squashfs", "tar", "casync"), Path())
    return _markdown(["", "what it lacks"], [[other.name, other.lacks] for other in every if other.name in there])


_FORMS: dict[str, Callable[[Run, list[str]], str]] = {
    "by link": _by_link,
    "by subject": _by_subject,
    "by ratio": _by_ratio,
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


def _markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    every = [columns, ["---"] * len(columns), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in every)


def _when(run: Run) -> str:
    most = max((row.runs for row in run.rows), default=0)
    return f"\nMeasured {run.date[:10]}, load {run.load:.1f} at the beginning; median of up to {most} (least–most).\n"
