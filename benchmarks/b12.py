"""B12: what programs notice when the lake is gone for a while: errors, the longest wait, the time until all is well.

A program reads at random places of a large file, each time where nobody has read before, so that every read needs the
lake. After a second the link begins to refuse connections, or goes silent; seconds later all is well again. *Recovery*
is from that moment until a read has succeeded.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import conversions
from benchmarks.competitors import rclone
from benchmarks.harness import Report, drop_caches
from benchmarks.proxy import Link, Trouble, proxy
from benchmarks.sites import Narfs, scratch, served
from benchmarks.trees import one_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan
    from benchmarks.proxy import Proxy

_LINK = Link(0.010, 1e9)
_BLOCK_BYTES = 64 << 10
_BEFORE_S, _AFTER_S = 1.0, 3.0
_PAUSE_S = 0.02


class _Read(NamedTuple):
    """One read: when it began and ended, and whether it failed."""

    begun: float
    ended: float
    failed: bool


def run(plan: Plan) -> None:
    dataset = one_file(plan.size(500_000_000, 10_000_000))
    lasts_s = plan.size(5, 1)
    folders = {"sealed": dataset.lake("sealed"), "rclone": conversions.tree(dataset)}
    with (
        Report("b12", "B12: the lake is gone for a while", plan, link=str(_LINK), lasts_s=lasts_s) as report,
        scratch() as work,
        served(work / "server", folders) as port,
        proxy(port, work / "proxy", _LINK) as lake,
    ):
        subjects = ("narfs", "rclone") if shutil.which("rclone") else ("narfs",)
        for _ in plan.rounds():
            for kind in (Trouble.REFUSED, Trouble.SILENT):
                for subject in subjects:
                    with _shown(subject, dataset, lake, work) as tree:
                        drop_caches()
                        reads, ended = _read_through(tree / "file", lake, kind, lasts_s)
                    _note(report, subject, f"{kind.name.lower()} for {lasts_s} s", reads, ended)


@contextmanager
def _shown(subject: str, dataset: Dataset, lake: Proxy, work: Path) -> Iterator[Path]:
    if subject == "narfs":
        with Narfs((dataset,), (f"{lake.url}/sealed",), work, remembers=False).shown() as shown:
            yield shown.tree
    else:
        with rclone(f"{lake.url}/rclone", work).shown() as shown:
            yield shown.tree / dataset.top.base_name


def _read_through(file: Path, lake: Proxy, kind: Trouble, lasts_s: float) -> tuple[list[_Read], float]:
    """Read while the trouble comes and goes; gives the reads and the moment when it went."""
    reads: list[_Read] = []
    over = threading.Event()
    reader = threading.Thread(target=_read_at_random, args=(file, reads, over))
    reader.start()
    time.sleep(_BEFORE_S)
    with lake.trouble(kind):
        time.sleep(lasts_s)
    ended = time.monotonic()
    time.sleep(_AFTER_S)
    over.set()
    reader.join()
    return reads, ended


def _read_at_random(file: Path, reads: list[_Read], over: threading.Event) -> None:
    places = list(range(0, file.stat().st_size - _BLOCK_BYTES, _BLOCK_BYTES))
    random.Random(0).shuffle(places)  # noqa: S311 - repeatable
    descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, _BLOCK_BYTES) as buffer:  # O_DIRECT wants an aligned one
        for place in places:
            begun, failed = time.monotonic(), False
            try:
                os.preadv(descriptor, [buffer], place)
            except OSError:
                failed = True
            reads.append(_Read(begun, time.monotonic(), failed))
            if over.wait(_PAUSE_S):
                break
    os.close(descriptor)


def _note(report: Report, subject: str, trouble: str, reads: list[_Read], ended: float) -> None:
    well = [read.ended for read in reads if not read.failed and read.ended > ended]
    report.add(subject, f"{trouble}: reads", "", len(reads))
    report.add(subject, f"{trouble}: errors", "", sum(read.failed for read in reads))
    report.add(subject, f"{trouble}: longest read", "s", max(read.ended - read.begun for read in reads))
    if well:
        report.add(subject, f"{trouble}: recovery", "s", min(well) - ended)
