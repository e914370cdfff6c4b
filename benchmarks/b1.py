"""B1, B2, B3: time until a program has run on a machine that has nothing of it, and what is fetched for it.

B1: narfs with an empty cache, from a sealed lake and from lakes of solid NARs; B2: ``nix copy`` of the closure, then
run; B3: narfs again after a restart of the daemon, its cache filled. Each lake is behind a proxy of its own, and the
subjects take turns. The daemon's start (which fetches the closure's narinfos and indexes) is a row of its own; ``nix
copy`` has no such part to leave out.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import datasets, nix
from benchmarks.closure import closure, program
from benchmarks.harness import Report, drop_caches, seconds
from benchmarks.processes import nginx
from benchmarks.proxy import Link, proxy
from benchmarks.sites import Narfs, scratch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.harness import Plan
    from benchmarks.proxy import Proxy, Traffic

_LINKS = tuple(Link(rtt_s, 1e9) for rtt_s in (0.0002, 0.010, 0.050))
_LAYOUTS = ("sealed", "zstd", "xz")
_COPIED = ("zstd", "xz")


def run(plan: Plan) -> None:
    dataset = closure()
    sizes = {layout: dataset.blob_bytes(layout) for layout in _LAYOUTS}
    facts = {"paths": len(dataset.members), "nar_bytes": dataset.nar_bytes, "blob_bytes": sizes}
    report = Report("b1", "B1, B2, B3: run a program", plan, **facts)
    links = _LINKS[1:2] if plan.quick else _LINKS
    with scratch() as work:
        nixes: dict[str, str | Path] = {"nix 2.8 copy": "nix"}
        if (newer := nix.newer(work / "newer")) is not None:
            nixes["nix 2.26 copy"] = newer
        _measure_unpacked(report, plan.runs)
        for number, link in enumerate(links):
            with ExitStack() as running:
                measured = {}
                for layout in _LAYOUTS:
                    base = work / f"{layout}-{number}"
                    port = running.enter_context(nginx(dataset.lake(layout), base / "nginx"))
                    lake = running.enter_context(proxy(port, base / "proxy", link))
                    measured[layout] = _Measuring(report, base, lake, link, layout)
                for _ in range(plan.runs):
                    for layout in _LAYOUTS:
                        measured[layout].narfs()
                    for layout in _COPIED:
                        for name, program in nixes.items():
                            measured[layout].nix_copy(name, program)
            _compare(report, link, nixes)
    report.finish()


def _compare(report: Report, link: Link, nixes: Iterable[str]) -> None:
    for name in nixes:
        for layout in _COPIED:
            for part in ("cold run", "start and cold run"):
                target = 0.2 if link.rtt_s == 0.010 and part == "cold run" else None
                report.ratio("narfs sealed", f"{name} {layout}", f"{part}, {link}", target=target)
    for layout in _COPIED:
        report.ratio("narfs sealed", f"narfs {layout}", f"start and cold run, {link}")


def _measure_unpacked(report: Report, runs: int) -> None:
    parts, store = program(), closure().store / "nix/store"
    for _ in range(runs):
        drop_caches()
        report.add("unpacked", "run, cold disk", "s", seconds(partial(parts.run, store)))
        report.add("unpacked", "run, warm", "s", seconds(partial(parts.run, store)))


class _Measuring:
    """One lake behind one link."""

    def __init__(self, report: Report, base: Path, lake: Proxy, link: Link, layout: str) -> None:
        self._report = report
        self._base = base
        self._lake = lake
        self._link = link
        self._layout = layout
        self._dataset = closure()
        self._folder = self._dataset.lake(layout)
        self._program = program()
        self._copies = 0

    def narfs(self) -> None:
        fresh = Narfs((self._dataset,), (self._lake.url,), self._base, remembers=False)
        before = self._lake.traffic()
        with fresh.shown() as shown:
            started = self._lake.traffic()
            drop_caches(but=self._folder)
            cold_s = seconds(partial(self._program.run, shown.tree.parent))
            self._row("narfs", "daemon start", "s", shown.start_s)
            self._row("narfs", "cold run", "s", cold_s)
            self._row("narfs", "start and cold run", "s", shown.start_s + cold_s)
            self._row("narfs", "requests at start", "", started.since(before).requests)
            self._traffic("narfs", self._lake.traffic().since(before))
            self._row("narfs", "run, warm", "s", seconds(partial(self._program.run, shown.tree.parent)))
        again = Narfs((self._dataset,), (self._lake.url,), self._base)
        before = self._lake.traffic()
        with again.shown() as shown:
            started = self._lake.traffic()
            drop_caches()
            self._row("narfs", "B3 daemon start, cache filled", "s", shown.start_s)
            self._row("narfs", "B3 run, cache filled", "s", seconds(partial(self._program.run, shown.tree.parent)))
            self._row("narfs", "B3 requests at start", "", started.since(before).requests)
            self._row("narfs", "B3 requests of the run", "", self._lake.traffic().since(started).requests)

    def nix_copy(self, name: str, program: str | Path) -> None:
        self._copies += 1
        root, home = self._base / f"root-{self._copies}", self._base / f"home-{self._copies}"
        key = datasets.public_key()
        before = self._lake.traffic()
        drop_caches(but=self._folder)
        copy = partial(nix.copy, trusted_public_key=key, program=program)
        copied_s = seconds(partial(copy, self._lake.url, nix.store_url(root), [self._dataset.top], home))
        ran_s = seconds(partial(self._program.run, root / "nix/store"))
        for measured in ("cold run", "start and cold run"):
            self._row(name, measured, "s", copied_s + ran_s)
        self._traffic(name, self._lake.traffic().since(before))

    def _traffic(self, subject: str, traffic: Traffic) -> None:
        to_file_size = traffic.bytes_down / self._dataset.blob_bytes(self._layout)
        target = 0.15 if self._layout == "sealed" else None
        self._row(subject, "requests", "", traffic.requests)
        self._row(subject, "fetched ÷ NarSize", "×", traffic.bytes_down / self._dataset.nar_bytes)
        self._row(subject, "fetched ÷ FileSize", "×", to_file_size, target=target)

    def _row(self, subject: str, measure: str, unit: str, value: float, *, target: float | None = None) -> None:
        self._report.add(f"{subject} {self._layout}", f"{measure}, {self._link}", unit, value, target=target)
