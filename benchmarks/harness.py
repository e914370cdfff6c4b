"""Machine facts, timing, statistics, the table and the result file.

A Report is one run of one benchmark: measurements of subjects (narfs, ext4, …), their ratios, and the facts without
which a number means nothing. Each row becomes one line of JSON with all of them, so a line can be quoted alone.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESULTS = Path(__file__).parent / "results"
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

    def size(self, full: int, quick: int) -> int:
        """Choose the size of an input."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing. ``values`` are raw, one per run, in ``unit``; ``target`` is the most the median may be."""

    subject: str
    measure: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None

    @property
    def median(self) -> float:
        """The number to quote."""
        return statistics.median(self.values)


class Report:
    """Collects rows in the order of their first value; ``finish`` prints the table and appends to the result file."""

    def __init__(self, name: str, question: str, plan: Plan, **parameters: Any) -> None:
        self.name = name
        self.question = question
        self.parameters = {"runs": plan.runs, **parameters}
        self._plan = plan
        self._values: dict[tuple[str, str, str, float | None], list[float]] = {}
        self._ratios: list[Row] = []
        self._load_before = os.getloadavg()[0]

    def add(self, subject: str, measure: str, unit: str, value: float, *, target: float | None = None) -> None:
        """Keep one more value of a row; ``target`` is the most its median may be."""
        self._values.setdefault((subject, measure, unit, target), []).append(value)

    def ratio(self, subject: str, to: str, measure: str, *, target: float | None = None) -> None:
        """Compare two subjects' medians of one measure."""
        ours, theirs = self._row(subject, measure), self._row(to, measure)
        if ours and theirs:
            value = ours.median / theirs.median
            self._ratios.append(Row(f"{subject} ÷ {to}", measure, "×", (value,), target))

    def _row(self, subject: str, measure: str) -> Row | None:
        return next((row for row in self.rows() if (row.subject, row.measure) == (subject, measure)), None)

    def rows(self) -> list[Row]:
        """Give the measurements, then the ratios."""
        measured = [
            Row(subject, measure, unit, tuple(values), target)
            for (subject, measure, unit, target), values in self._values.items()
        ]
        return [*measured, *self._ratios]

    def finish(self) -> None:
        """Show what was measured, and keep it unless it was a quick look."""
        facts = machine_facts() | {"load_before": self._load_before}
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
        for measure in dict.fromkeys(row.measure for row in rows):
            for row in rows:
                if row.measure == measure:
                    table.add_row(measure, row.subject, *_numbers(row), row.unit, _verdict(row))
            table.add_section()
        Console(width=max(120, Console().width)).print(table)


def _summary(row: Row) -> dict[str, Any]:
    return {**asdict(row), "median": row.median, "min": min(row.values), "max": max(row.values)}


def _numbers(row: Row) -> tuple[str, str, str]:
    if len(row.values) == 1:
        return (_number(row.median), "", "")
    return (_number(row.median), _number(min(row.values)), _number(max(row.values)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _verdict(row: Row) -> str:
    if row.target is None:
        return ""
    return f"≤ {row.target:g}: {'met' if row.median <= row.target else 'MISSED'}"


def machine_facts() -> dict[str, Any]:
    """Say what it was measured on, with what, when and of which commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _first_line("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _LIBRARIES}
        | {name: _first_line(*command) for name, command in _PROGRAMS.items()},
    }


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
