"""B7: what do small files cost? Open, read and close 12 k files below 64 KiB, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.comparison import BARE, EROFS, NARFS, SQUASHFUSE, all_sites, measure
from benchmarks.datasets import files_below
from benchmarks.harness import Report
from benchmarks.sites import scratch
from benchmarks.trees import many_files
from benchmarks.workloads import read_each

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Plan


def run(plan: Plan) -> None:
    dataset = many_files(plan.size(12_000, 240), largest_bytes=65_535)
    files = list(files_below(dataset.tree))
    facts = {"files": len(files), "bytes": dataset.nar_bytes, "lake": "file, zstd"}

    def read_files(tree: Path) -> None:
        read_each(tree, files)

    with Report("b7", "B7: read small files", plan, **facts) as report, scratch() as work:
        sites = all_sites(dataset, work, compression="zstd")
        measure(report, sites, "read", read_files, runs=plan.rounds(), unit="µs each", per_s=1e6 / len(files))
        ext4 = sites[3].name
        for state in ("cold", "warm"):
            report.ratio(NARFS, BARE, f"read, {state}", target=1.1)
            report.ratio(NARFS, ext4, f"read, {state}")
            report.ratio(NARFS, SQUASHFUSE, f"read, {state}")
            report.ratio(EROFS, ext4, f"read, {state}", target=1.15 if state == "warm" else None)
