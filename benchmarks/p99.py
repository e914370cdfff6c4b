"""p99: latency of a warm read while a NAR of 100 k files is ingested.

One reader asks for 4 KiB at random places of a file that is wholly in the cache, then rests a millisecond. It opens the
file with O_DIRECT: the kernel passes each such read on to the daemon and keeps no page; the daemon's own count of reads
proves it. Idle for some seconds, then while a first listing of the other path makes the daemon ingest it.
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.harness import Report
from benchmarks.sites import Narfs, file_lake, scratch
from benchmarks.trees import many_files, one_file
from benchmarks.workloads import read_large

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.harness import Plan

_BLOCK_BYTES = 4096
_PAUSE_S = 0.001
_COMPRESSIONS = ("zstd", "xz")
_QUANTILES = (50, 99, 99.9)


def run(plan: Plan) -> None:
    many = many_files(plan.size(100_000, 2_000), largest_bytes=8192)
    large = one_file(plan.size(500_000_000, 16_000_000))
    facts = {"pause_s": _PAUSE_S, "ingested": many.nar_bytes}
    with Report("p99", "p99: warm 4 KiB reads beside an ingest", plan, **facts) as report, scratch() as work:
        for part, compression in plan.over(_COMPRESSIONS[: plan.size(2, 1)]):
            stores = (file_lake(large, "zstd"), file_lake(many, compression))
            for _ in part.rounds():
                _measure(report, Narfs((large, many), stores, work, remembers=False), compression, plan)
        for compression in _COMPRESSIONS:
            for quantile in _QUANTILES:
                target = 2.0 if quantile == 99 else None
                report.ratio(f"ingest, {compression}", "idle", f"p{quantile:g}", target=target)


def _measure(report: Report, site: Narfs, compression: str, plan: Plan) -> None:
    with site.shown() as shown:
        file = shown.tree / "file"
        read_large(file, 1)
        asked_before = site.status()["requests"]["requests"].get("read", 0)
        idle_ends = time.monotonic() + plan.size(10, 2)
        idle = _latencies(file, lambda: time.monotonic() < idle_ends)
        other = site.mountpoint / site.members[1].top.base_name
        with subprocess.Popen(("ls", other), stdout=subprocess.DEVNULL) as ingest:
            beside = _latencies(file, lambda: ingest.poll() is None)
        if ingest.returncode:
            raise RuntimeError(f"the ingest failed: {site.log.read_text()[-2000:]}")
        asked = site.status()["requests"]["requests"]["read"] - asked_before
    for subject, latencies in (("idle", idle), (f"ingest, {compression}", beside)):
        report.add(subject, "reads", "", len(latencies))
        for quantile in _QUANTILES:
            report.add(subject, f"p{quantile:g}", "ms", _quantile(latencies, quantile) * 1000)
    if asked < len(idle) + len(beside):
        raise RuntimeError(f"{len(idle) + len(beside)} reads, of which only {asked} reached the daemon")


def _latencies(file: Path, go_on: Callable[[], bool]) -> list[float]:
    """Read at random places while ``go_on``; gives the seconds each read took."""
    chance, latencies = random.Random(file.name), []  # noqa: S311 - repeatable
    descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, _BLOCK_BYTES)  # O_DIRECT wants an aligned one
    blocks = os.fstat(descriptor).st_size // _BLOCK_BYTES
    while go_on():
        place = chance.randrange(blocks) * _BLOCK_BYTES
        start = time.perf_counter()
        os.preadv(descriptor, [buffer], place)
        latencies.append(time.perf_counter() - start)
        time.sleep(_PAUSE_S)
    os.close(descriptor)
    return latencies


def _quantile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
