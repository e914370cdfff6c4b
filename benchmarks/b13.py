"""B13: memory of the daemon per 100 k entries attached.

Ten paths of 20 k files are attached and walked with ``find -ls``. Memory is what the daemon has more after that than
when it was mounted with an empty cache and knew no tree: resident, and of it what is its own (anonymous; the rest is
pages of index files, which the kernel can drop). Once while everything is ingested, once from a filled cache, where the
indexes are loaded with the mount; workers are counted beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness import Report, drop_caches
from benchmarks.processes import children_of, memory_bytes
from benchmarks.sites import Narfs, file_lake, scratch
from benchmarks.trees import many_files
from benchmarks.workloads import find_ls

if TYPE_CHECKING:
    from benchmarks.harness import Plan

_PATHS = 10
_MEBI = 1 << 20
_FIELDS = {"VmRSS": "resident", "RssAnon": "anonymous"}


def run(plan: Plan) -> None:
    dataset = many_files(plan.size(20_000, 2_000), largest_bytes=256, paths=_PATHS)
    entries = sum(1 for _ in (dataset.store / "nix/store").rglob("*"))
    facts = {"paths": _PATHS, "entries": entries}
    stores = (file_lake(dataset, "zstd"),)
    with Report("b13", "B13: memory per 100 k entries attached", plan, **facts) as report, scratch() as work:
        empty = Narfs((dataset,), stores, work, "narfs, empty cache", remembers=False)
        filled = Narfs((dataset,), stores, work, "narfs, cache filled")
        for _ in plan.rounds():
            idle = _measure(report, empty, entries, None)
            _measure(report, filled, entries, idle)


def _measure(report: Report, site: Narfs, entries: int, idle: dict[str, int] | None) -> dict[str, int]:
    """Walk everything; gives the memory of the daemon before, which is ``idle`` unless that is given."""
    with site.shown() as shown:
        drop_caches()
        before = {field: memory_bytes(shown.pid, field) for field in _FIELDS}
        idle = idle or before
        find_ls(shown.tree.parent)
        for field, name in _FIELDS.items():
            after = memory_bytes(shown.pid, field)
            report.add(site.name, f"{name}, mounted", "MiB", before[field] / _MEBI)
            report.add(site.name, f"{name}, everything walked", "MiB", after / _MEBI)
            grown = (after - idle[field]) / 1e6 / (entries / 100_000)
            target = 20 if name == "resident" else None
            report.add(site.name, f"{name} per 100 k entries", "MB", grown, target=target)
        workers = sum(memory_bytes(child) for child in children_of(shown.pid))
        report.add(site.name, "resident, all workers", "MiB", workers / _MEBI)
    return before
