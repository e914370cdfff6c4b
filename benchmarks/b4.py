"""B4: what does metadata cost? ``find -ls`` of 60 k entries, stat of 12 k files, 12 k names that are absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.comparison import BARE, EROFS, NARFS, all_sites, measure
from benchmarks.datasets import files_below
from benchmarks.harness import Report
from benchmarks.sites import scratch
from benchmarks.trees import many_files
from benchmarks.workloads import absent_names, find_ls, spread, stat_each

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Plan


def run(plan: Plan) -> None:
    dataset = many_files(plan.size(58_700, 2_900), largest_bytes=2048)
    files = list(files_below(dataset.tree))
    asked = spread(files, 12_000)
    absent = absent_names(asked)

    def stat_files(tree: Path) -> None:
        stat_each(tree, asked)

    def stat_absent(tree: Path) -> None:
        stat_each(tree, absent)

    facts = {"files": len(files), "asked": len(asked), "lake": "file, zstd"}
    with Report("b4", "B4: metadata of a tree", plan, **facts) as report, scratch() as work:
        sites = all_sites(dataset, work, compression="zstd")
        ext4 = sites[3].name
        for part, (name, what) in plan.over({"find -ls": find_ls, "stat": stat_files, "ENOENT": stat_absent}.items()):
            if name == "find -ls":
                measure(report, sites, name, what, runs=part.rounds())
            else:
                measure(report, sites[1:], name, what, runs=part.rounds(), unit="µs each", per_s=1e6 / len(asked))
        for name in ("find -ls", "stat", "ENOENT"):
            for state in ("cold", "warm"):
                report.ratio(NARFS, BARE, f"{name}, {state}", target=1.1)
                report.ratio(
                    NARFS, ext4, f"{name}, {state}", target=1.5 if name != "find -ls" and state == "warm" else None
                )
                report.ratio(EROFS, ext4, f"{name}, {state}", target=1.15)
