"""B10 and B11: what a new version of a closure costs when the old one is there, and how much disk a cache takes.

Version 2 is made by script (``updates``) as an update low in a package set does it: a tenth of the packages changed,
and everything that depends on one of them was built again. First the program of B1 runs, then everything is read; each
time of version 1 with an empty cache, then of version 2. ``nix copy`` gets both versions into one store. B11 is what
the cache directory takes on the disk for the NARs it holds, whole and in parts.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import datasets, nix
from benchmarks.closure import closure, program
from benchmarks.datasets import files_below
from benchmarks.harness import Report, drop_caches, seconds
from benchmarks.proxy import Link, proxy
from benchmarks.sites import Narfs, scratch, served
from benchmarks.updates import new_version
from benchmarks.workloads import read_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan
    from benchmarks.proxy import Proxy, Traffic

_LINK = Link(0.010, 1e9)
_OLD = "version-1"


def run(plan: Plan) -> None:
    old = closure(quick=plan.quick)
    new = new_version(old)
    versions = {_OLD: old, "version-2": new}
    lakes = {
        f"{version}-{layout}": dataset.lake(layout)
        for version, dataset in versions.items()
        for layout in ("sealed", "zstd")
    }
    kept = len(set(old.paths).intersection(new.paths))
    facts = {"paths": len(new.members), "paths_kept": kept, "nar_bytes": new.nar_bytes, "link": str(_LINK)}
    with (
        Report("b10", "B10, B11: version 2 after version 1, and the size of the cache", plan, **facts) as report,
        scratch() as work,
        served(work / "server", lakes) as port,
        proxy(port, work / "proxy", _LINK) as lake,
    ):
        measuring = _Measuring(report, versions, lake, work)
        name, newest = list(nix.programs(work / "newer").items())[-1]
        for _ in plan.rounds():
            measuring.narfs("narfs, program", _run_program)
            measuring.narfs("narfs, everything read", _read_everything)
            measuring.nix_copy(name, newest)


@dataclass(frozen=True, slots=True)
class _Measuring:
    report: Report
    versions: dict[str, Dataset]
    lake: Proxy
    work: Path

    def narfs(self, subject: str, use: Callable[[Dataset, Path], object]) -> None:
        for version, dataset in self.versions.items():
            first = version == _OLD
            site = Narfs((dataset,), (f"{self.lake.url}/{version}-sealed",), self.work, remembers=not first)
            before = self.lake.traffic()
            with site.shown() as shown:
                drop_caches(but=dataset.lake("sealed"))
                used_s = seconds(partial(use, dataset, shown.tree.parent))
            self._row(subject, version, shown.start_s + used_s, before)
            if first:
                self.report.add(subject, "B11: cache ÷ all NARs", "×", _disk_bytes(site.cache) / dataset.nar_bytes)

    def nix_copy(self, name: str, program_file: str | Path) -> None:
        shutil.rmtree(self.work / "root", ignore_errors=True)
        for version, dataset in self.versions.items():
            url, root = f"{self.lake.url}/{version}-zstd", nix.store_url(self.work / "root")
            copy = partial(nix.copy, trusted_public_key=datasets.public_key(), program=program_file)
            with tempfile.TemporaryDirectory(dir=self.work) as home:
                before = self.lake.traffic()
                drop_caches(but=dataset.lake("zstd"))
                copied_s = seconds(partial(copy, url, root, [dataset.top], Path(home)))
            self._row(f"{name} zstd", version, copied_s, before)

    def _row(self, subject: str, version: str, took_s: float, before: Traffic) -> None:
        self.report.add(subject, f"{version}, start and use", "s", took_s)
        self.report.add(subject, f"{version}, fetched", "MB", self.lake.traffic().since(before).bytes_down / 1e6)


def _run_program(dataset: Dataset, store: Path) -> None:
    program(dataset).run(store)


def _read_everything(dataset: Dataset, store: Path) -> None:
    read_each(store, _files(dataset))


@cache
def _files(dataset: Dataset) -> list[str]:
    return [name for name in files_below(dataset.store / "nix/store") if not name.startswith(".links/")]


def _disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
