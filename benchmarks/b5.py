"""B5: how fast does one large file come? Read from beginning to end, by one reader and by four at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.comparison import BARE, EROFS, NARFS, SQUASHFUSE, all_sites, measure
from benchmarks.harness import Report
from benchmarks.sites import scratch
from benchmarks.trees import one_file
from benchmarks.workloads import read_large

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Plan

_READERS = (1, 4)


def run(plan: Plan) -> None:
    size = plan.size(500_000_000, 16_000_000)
    dataset = one_file(size)
    facts = {"bytes": size, "lake": "file, zstd"}
    with Report("b5", "B5: sequential read of one large file", plan, **facts) as report, scratch() as work:
        sites = all_sites(dataset, work, compression="zstd")
        for part, readers in plan.over(_READERS):

            def read(tree: Path, readers: int = readers) -> None:
                read_large(tree / "file", readers)

            chosen = sites if readers == 1 else sites[1:]
            giga = readers * size / 1e9
            measure(report, chosen, _name(readers), read, runs=part.rounds(), unit="s per GB", per_s=1 / giga)
        ext4 = sites[3].name
        for readers in _READERS:
            for state in ("cold", "warm"):
                measured = f"{_name(readers)}, {state}"
                report.ratio(NARFS, ext4, measured, target=1.1 if state == "warm" else None)
                report.ratio(EROFS, ext4, measured, target=1.1 if state == "warm" else None)
                report.ratio(NARFS, BARE, measured)
                report.ratio(NARFS, SQUASHFUSE, measured)


def _name(readers: int) -> str:
    return f"{readers} reader{'s' if readers > 1 else ''}"
