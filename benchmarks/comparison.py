"""One workload on several sites, in turns, so that a drift of the machine hits all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import drop_caches, seconds
from benchmarks.sites import BarePyfuse3, Disk, Narfs, Squashfuse, file_lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Report
    from benchmarks.sites import Site

NARFS, EMPTY, BARE, SQUASHFUSE = "narfs", "narfs, empty cache", "bare pyfuse3", "squashfuse"
EROFS = "narfs, erofs"


def all_sites(dataset: Dataset, work: Path, *, compression: str) -> list[Site]:
    """Give every way to show a dataset's top path. The second narfs finds what the first has left in the cache."""
    stores = (file_lake(dataset, compression),)
    return [
        Narfs((dataset,), stores, work, EMPTY, remembers=False),
        Narfs((dataset,), stores, work, NARFS),
        BarePyfuse3(dataset.tree, work),
        Disk(dataset.tree),
        Squashfuse(dataset.squashfs(), work),
        *([Narfs((dataset,), stores, work, EROFS, frontend="erofs")] if _kernel_has_erofs() else []),
    ]


def _kernel_has_erofs() -> bool:
    return "\terofs\n" in Path("/proc/filesystems").read_text(encoding="ascii")


def measure(
    report: Report,
    sites: Sequence[Site],
    name: str,
    work: Callable[[Path], object],
    *,
    runs: Iterable[int],
    unit: str = "s",
    per_s: float = 1.0,
) -> None:
    """Time ``work`` twice per daemon: with the kernel's caches dropped, and again. ``per_s`` is units in a second."""
    for _ in runs:
        for site in sites:
            with site.shown() as shown:
                drop_caches()
                report.add(site.name, f"{name}, cold", unit, seconds(lambda: work(shown.tree)) * per_s)
                if site.name != EMPTY:
                    report.add(site.name, f"{name}, warm", unit, seconds(lambda: work(shown.tree)) * per_s)
                if shown.pid:
                    report.add(site.name, "daemon start", "s", shown.start_s)
