"""What was measured before: the lines of ``results/NAME.jsonl``, as values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.proxy import Link

RESULTS = Path(__file__).parent / "results"


class Result(NamedTuple):
    """One row of one run."""

    subject: str
    measure: str
    unit: str
    median: float
    least: float
    most: float
    runs: int
    target: float | None = None
    link: Link | None = None

    @property
    def is_ratio(self) -> bool:
        """Whether it compares two subjects."""
        return "÷" in self.subject

    def __str__(self) -> str:
        spread = f" ({number(self.least)}–{number(self.most)})" if self.runs > 1 else ""
        return f"{number(self.median)}{spread}"


class Run(NamedTuple):
    """All rows of one run of a benchmark, and what is true of all of them."""

    rows: tuple[Result, ...]
    parameters: dict[str, Any]
    date: str
    load: float

    def measures(self) -> list[str]:
        """Name what was measured, in the order it was."""
        return list(dict.fromkeys(row.measure for row in self.rows))

    def find(self, subject: str, measure: str, link: Link | None = None) -> Result | None:
        """Give the row of a subject."""
        wanted = (subject, measure, link)
        return next((row for row in self.rows if (row.subject, row.measure, row.link) == wanted), None)


def newest(benchmark: str, folder: Path = RESULTS) -> Run | None:
    """Read the last run of a benchmark; None if there never was one."""
    file = folder / f"{benchmark}.jsonl"
    if not file.exists():
        return None
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    last = lines[-1]
    rows = tuple(_result(line) for line in lines if line["date"] == last["date"])
    return Run(rows, last["parameters"], last["date"], last.get("load_before", math.nan))


def _result(line: dict[str, Any]) -> Result:
    link = line.get("link")
    return Result(
        line["subject"],
        line["measure"],
        line["unit"],
        line["median"],
        line["min"],
        line["max"],
        len(line["values"]),
        line["target"],
        link and Link(link["rtt_ms"] / 1e3, math.inf if link["mbit_s"] is None else link["mbit_s"] * 1e6),
    )


def number(value: float) -> str:
    """Write three digits of a number, all of a large one."""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 999.5 else f"{value:.3g}"
