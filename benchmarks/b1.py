"""B1, B2, B3: time until a program has run on a machine that has nothing of it, and what is fetched for it.

B1: narfs with an empty cache; B2: ``nix copy`` of the closure, then run; B3: narfs again after a restart of the daemon,
its cache filled. All from one lake through one proxy. The daemon's start (which fetches the closure's narinfos) is a
row of its own; ``nix copy`` has no such part to leave out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks import datasets, nix
from benchmarks.closure import closure, program
from benchmarks.harness import Report, drop_caches, seconds
from benchmarks.processes import nginx
from benchmarks.proxy import Link, proxy
from benchmarks.sites import Narfs, scratch

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Plan
    from benchmarks.proxy import Proxy, Traffic

_LINKS = (Link(), Link(rtt_s=0.010, bits_per_s=1e9))
_COMPRESSIONS = ("zstd", "xz")


def run(plan: Plan) -> None:
    dataset = closure()
    nar_bytes = dataset.nar_bytes
    report = Report("b1", "B1, B2, B3: run a program", plan, paths=len(dataset.members), nar_bytes=nar_bytes)
    with scratch() as work:
        _measure_unpacked(report, plan.runs)
        for compression in _COMPRESSIONS:
            for number, link in enumerate(_LINKS):
                base = work / f"{compression}-{number}"
                with (
                    nginx(dataset.lake(compression), base / "nginx") as lake_port,
                    proxy(lake_port, base / "proxy", link) as lake,
                ):
                    one = _Measuring(report, base, lake, f"{compression}, {link}", dataset.blob_bytes(compression))
                    for _ in range(plan.runs):
                        one.narfs()
                        one.nix_copy()
    for link in _LINKS:
        for compression in _COMPRESSIONS:
            for measured in ("cold run", "start and cold run"):
                report.ratio("narfs", "nix copy", f"{measured}, {compression}, {link}")
    report.finish()


def _measure_unpacked(report: Report, runs: int) -> None:
    parts, store = program(), closure().store / "nix/store"
    for _ in range(runs):
        drop_caches()
        report.add("unpacked", "run, cold disk", "s", seconds(partial(parts.run, store)))
        report.add("unpacked", "run, warm", "s", seconds(partial(parts.run, store)))


class _Measuring:
    """One lake behind one link."""

    def __init__(self, report: Report, base: Path, lake: Proxy, label: str, blob_bytes: int) -> None:
        self._report = report
        self._base = base
        self._lake = lake
        self._label = label
        self._blob_bytes = blob_bytes
        self._dataset = closure()
        self._program = program()
        self._url = f"http://127.0.0.1:{lake.port}"
        self._copies = 0

    def narfs(self) -> None:
        fresh = Narfs((self._dataset,), (self._url,), self._base, remembers=False)
        before = self._lake.traffic()
        with fresh.shown() as shown:
            started = self._lake.traffic()
            drop_caches()
            cold_s = seconds(partial(self._program.run, shown.tree.parent))
            self._row("narfs", "daemon start", "s", shown.start_s)
            self._row("narfs", "cold run", "s", cold_s)
            self._row("narfs", "start and cold run", "s", shown.start_s + cold_s)
            self._row("narfs", "run, warm", "s", seconds(partial(self._program.run, shown.tree.parent)))
            self._row("narfs", "requests at start", "", started.since(before).requests)
            self._traffic("narfs", self._lake.traffic().since(before))
        again = Narfs((self._dataset,), (self._url,), self._base)
        before = self._lake.traffic()
        with again.shown() as shown:
            started = self._lake.traffic()
            drop_caches()
            self._row("narfs", "B3 daemon start, cache filled", "s", shown.start_s)
            self._row("narfs", "B3 run, cache filled", "s", seconds(partial(self._program.run, shown.tree.parent)))
            self._row("narfs", "B3 requests at start", "", started.since(before).requests)
            self._row("narfs", "B3 requests of the run", "", self._lake.traffic().since(started).requests)

    def nix_copy(self) -> None:
        self._copies += 1
        root, home = self._base / f"root-{self._copies}", self._base / f"home-{self._copies}"
        key = datasets.public_key()
        before = self._lake.traffic()
        drop_caches()
        copied_s = seconds(
            partial(nix.copy, self._url, nix.store_url(root), [self._dataset.top], home, trusted_public_key=key)
        )
        ran_s = seconds(partial(self._program.run, root / "nix/store"))
        for measured in ("cold run", "start and cold run"):
            self._row("nix copy", measured, "s", copied_s + ran_s)
        self._traffic("nix copy", self._lake.traffic().since(before))

    def _traffic(self, subject: str, traffic: Traffic) -> None:
        self._row(subject, "requests", "", traffic.requests)
        self._row(subject, "fetched ÷ NarSize", "×", traffic.bytes_down / self._dataset.nar_bytes)
        self._row(subject, "fetched ÷ FileSize", "×", traffic.bytes_down / self._blob_bytes)

    def _row(self, subject: str, measure: str, unit: str, value: float) -> None:
        self._report.add(subject, f"{measure}, {self._label}", unit, value)
