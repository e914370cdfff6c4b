"""What does it cost to note what is read? Its share of the processor time of reading, in narfs, kernel and reader.

All of it is cached by narfs and nothing by the kernel, so that each read comes to narfs: once for the first time in
this view, then again. Processor time and not time, because 1 % of that could not be seen.
"""

from __future__ import annotations

import json
import os
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING

from benchmarks.datasets import files_below
from benchmarks.harness import Report, drop_caches
from benchmarks.noting import NOTED
from benchmarks.processes import daemon_cpu_seconds
from benchmarks.sites import Narfs, file_lake, scratch
from benchmarks.trees import many_files, one_file
from benchmarks.workloads import read_each, read_large

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan

_TIMES = (1, 5)


def run(plan: Plan) -> None:
    large = one_file(plan.size(500_000_000, 50_000_000))
    many = many_files(plan.size(12_000, 1_000), largest_bytes=65_535)
    small_files = list(files_below(many.tree))
    reads: dict[str, tuple[Dataset, Callable[[Path], object]]] = {
        "one large file": (large, lambda tree: read_large(tree / "file", 1)),
        "small files": (many, lambda tree: read_each(tree, small_files)),
    }
    with Report("reads", "what noting reads costs", plan, files=len(small_files)) as report, scratch() as work:
        for part, (name, (dataset, read)) in plan.over(reads.items()):
            stores = (file_lake(dataset, "sealed"),)
            for frontend in ("tree", "erofs"):
                site = Narfs((dataset,), stores, work, module="benchmarks.noting", frontend=frontend)
                _measure(site, read, work / "noted", 1)  # brings it into the cache
                for _ in part.rounds():
                    for times in _TIMES:
                        reading_s, noting_s, notes = _measure(site, read, work / "noted", times)
                        what = f"{name}, read {'once' if times == 1 else f'{times} times'}"
                        report.add(frontend, what, "s", reading_s)
                        report.add(frontend, f"{what}: a note", "µs", 1e6 * noting_s / max(notes, 1))
                        report.add(frontend, f"{what}: noting", "%", 100 * noting_s / reading_s, target=1.0)


def _measure(site: Narfs, read: Callable[[Path], object], noted: Path, times: int) -> tuple[float, float, int]:
    """Read so many times; give the processor seconds of that, and of noting, and how many notes there were."""
    os.environ[NOTED] = str(noted)
    with site.shown() as shown:
        drop_caches()
        before = _cpu_seconds(shown.pid)
        for number in range(times):
            if number:
                drop_caches()
            read(shown.tree)
        reading_s = _cpu_seconds(shown.pid) - before
    told = json.loads(noted.read_text(encoding="ascii"))
    return reading_s, told["seconds"], told["notes"]


def _cpu_seconds(pid: int) -> float:
    own = getrusage(RUSAGE_SELF)
    return daemon_cpu_seconds(pid) + own.ru_utime + own.ru_stime
