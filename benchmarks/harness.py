"""Machine facts, timing, statistics, the table and the result file.

A Report is one run of one benchmark: measurements of subjects (narfs, ext4, …), their ratios, and the facts without
which a number means nothing. Each row becomes one line of JSON with all of them, so a line can be quoted alone.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks.results import RESULTS, number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from benchmarks.proxy import Link

_Item = TypeVar("_Item")

_LIBRARIES = ("pyfuse3", "trio", "httpx", "obstore", "zstandard")
_PROGRAMS = {
    "nix": ("nix", "--version"),
    "nginx": ("nginx", "-v"),
    "squashfuse": ("squashfuse", "--help"),
    "mksquashfs": ("mksquashfs", "-version"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to do. ``quick`` makes inputs small and numbers worthless: it shows that a benchmark works."""

    quick: bool
    runs: int
    as_json: bool = False
    ends_at: float = math.inf
    """Of the monotonic clock: no round begins that would probably pass it, but the first."""

    def size(self, full: int, quick: int) -> int:
        """Choose the size of an input."""
        return quick if self.quick else full

    def rounds(self) -> Iterator[int]:
        """Begin as many runs as there is time for, one at least and ``runs`` at most; gives their numbers."""
        longest_s = 0.0
        for done in range(self.runs):
            begun = time.monotonic()
            if done and begun + longest_s > self.ends_at:
                log(f"no time for more than {done} of {self.runs} runs")
                return
            yield done
            longest_s = max(longest_s, time.monotonic() - begun)

    def over(self, items: Collection[_Item]) -> Iterator[tuple[Plan, _Item]]:
        """Measure one after the other, each in an equal share of the time that is left."""
        for done, item in enumerate(items):
            now = time.monotonic()
            yield replace(self, ends_at=now + (self.ends_at - now) / (len(items) - done)), item


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing. ``values`` are raw, one per run, in ``unit``; ``target`` is the most the median may be."""

    subject: str
    measure: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None
    link: Link | None = None
    """What lay between it and the lake, where that was varied."""

    @property
    def median(self) -> float:
        """The number to quote."""
        return statistics.median(self.values)


class Report:
    """Collects rows in the order of their first value; at its end prints the table and appends to the result file.

    A context manager: what was measured until an error or an interruption is kept too.
    """

    def __init__(self, name: str, question: str, plan: Plan, **parameters: Any) -> None:
        self.name = name
        self.question = question
        self.parameters = {"runs": plan.runs, **parameters}
        self._plan = plan
        self._values: dict[tuple[str, str, str, float | None, Link | None], list[float]] = {}
        self._ratios: list[Row] = []
        self._load_before = os.getloadavg()[0]
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            self.parameters["interrupted_by"] = error.__name__
        self._finish()

    def add(
        self,
        subject: str,
        measure: str,
        unit: str,
        value: float,
        *,
        target: float | None = None,
        link: Link | None = None,
    ) -> None:
        """Keep one more value of a row; ``target`` is the most its median may be."""
        self._values.setdefault((subject, measure, unit, target, link), []).append(value)

    def ratio(
        self, subject: str, to: str, measure: str, *, target: float | None = None, link: Link | None = None
    ) -> None:
        """Compare two subjects' medians of one measure."""
        ours, theirs = self._row(subject, measure, link), self._row(to, measure, link)
        if ours and theirs:
            value = ours.median / theirs.median
            self._ratios.append(Row(f"{subject} ÷ {to}", measure, "×", (value,), target, link))

    def _row(self, subject: str, measure: str, link: Link | None) -> Row | None:
        wanted = (subject, measure, link)
        return next((row for row in self.rows() if (row.subject, row.measure, row.link) == wanted), None)

    def rows(self) -> list[Row]:
        """Give the measurements, then the ratios."""
        measured = [
            Row(subject, measure, unit, tuple(values), target, link)
            for (subject, measure, unit, target, link), values in self._values.items()
        ]
        return [*measured, *self._ratios]

    def _finish(self) -> None:
        """Show what was measured, and keep it unless it was a quick look."""
        took_s = round(time.monotonic() - self._begun, 1)
        facts = machine_facts() | {"load_before": self._load_before, "took_s": took_s}
        self._print(facts)
        common = {"parameters": self.parameters, **facts}
        lines = [json.dumps({"benchmark": self.name, **_summary(row), **common}) + "\n" for row in self.rows()]
        if self._plan.as_json:
            sys.stdout.writelines(lines)
        if not self._plan.quick:
            RESULTS.mkdir(exist_ok=True)
            with (RESULTS / f"{self.name}.jsonl").open("a", encoding="utf-8") as results:
                results.writelines(lines)

    def _print(self, facts: Mapping[str, Any]) -> None:
        table = Table("measure", "subject", "median", "min", "max", "unit", "target", title=self.question)
        table.caption = f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}; {self.parameters}"
        rows = self.rows()
        for measure, link in dict.fromkeys((row.measure, row.link) for row in rows):
            for row in rows:
                if (row.measure, row.link) == (measure, link):
                    named = f"{measure}, {link}" if link else measure
                    table.add_row(named, row.subject, *_numbers(row), row.unit, _verdict(row))
            table.add_section()
        Console(width=max(120, Console().width)).print(table)


def _summary(row: Row) -> dict[str, Any]:
    link = row.link and {"rtt_ms": row.link.rtt_s * 1e3, "mbit_s": _finite(row.link.bits_per_s / 1e6)}
    return {**asdict(row), "link": link, "median": row.median, "min": min(row.values), "max": max(row.values)}


def _finite(value: float) -> float | None:
    """JSON has no word for what is not limited."""
    return None if math.isinf(value) else value


def _numbers(row: Row) -> tuple[str, str, str]:
    if len(row.values) == 1:
        return (number(row.median), "", "")
    return (number(row.median), number(min(row.values)), number(max(row.values)))


def _verdict(row: Row) -> str:
    if row.target is None:
        return ""
    return f"≤ {row.target:g}: {'met' if row.median <= row.target else 'MISSED'}"


def machine_facts() -> dict[str, Any]:
    """Say what it was measured on, with what, when and of which commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _LIBRARIES}
        | {name: _first_line(*command) for name, command in _PROGRAMS.items()},
    }


def _commit() -> str:
    """Name the commit; results that were just written make it no other one."""
    git = ("git", "-C", str(Path(__file__).parents[1]))
    changed = _first_line(*git, "status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results", ":!*.md")
    return _first_line(*git, "rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def _field(path: str, name: str) -> str:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return next((line for line in (done.stderr + done.stdout).splitlines() if line), "")


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def drop_caches(*, but: Path | None = None) -> None:
    """Make the kernel forget pages, dentries and inodes, of every file system.

    ``but``: the lake behind a proxy, which stands for another machine; its files are read in again.
    """
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    for file in but.rglob("*") if but else ():
        if file.is_file():
            file.read_bytes()


def log(text: str) -> None:
    """Tell who waits what is being done; standard output keeps to the tables."""
    print(f"benchmarks: {text}", file=sys.stderr, flush=True)
