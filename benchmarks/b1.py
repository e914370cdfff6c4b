"""B1, B2, B3: time until a program has run on a machine that has nothing of it, and what is fetched for it.

B1: narfs with an empty cache, from a sealed lake, without and with a learned profile, and from lakes of solid NARs, and
what else can run a program from behind HTTP (``competitors``); B2: ``nix copy`` of the closure, then run; B3: narfs
again after a restart of the daemon, its cache filled. Everything is behind one counting proxy per link, and the
subjects take turns. The daemon's start (which fetches the narinfos and indexes of the closure) is a row of its own;
``nix copy`` has no such part to leave out.

Five rounds of every subject on every link would take an hour. So the other links than those of the curves over the
round trip are measured every second round, what is slow there only in the first, and the older Nix once, at 10 ms.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from benchmarks import conversions, datasets, nix
from benchmarks.closure import closure, program
from benchmarks.competitors import competitors, folders
from benchmarks.harness import Report, drop_caches, log, seconds
from benchmarks.proxy import Link, proxy
from benchmarks.sameness import assert_same
from benchmarks.sites import Narfs, scratch, served

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from pathlib import Path

    from benchmarks.competitors import Competitor
    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan
    from benchmarks.proxy import Proxy, Traffic

_TYPICAL = Link(0.010, 1e9)
_CURVE = (Link(0.0002, 1e9), Link(0.001, 1e9), _TYPICAL, Link(0.050, 1e9))
_OTHERS = (Link(0.010, 50e6), Link(0.010, math.inf))
_LAYOUTS = ("sealed", "zstd", "xz")
"""A quick look leaves out the last: xz takes its time to make."""
_COPIED = ("zstd", "xz")
_SLOW = ("casync",)
"""Half a minute each time at 50 ms."""
_COLD, _BOTH = "cold run", "start and cold run"


def run(plan: Plan) -> None:
    dataset = closure(quick=plan.quick)
    layouts = _LAYOUTS[: plan.size(3, 2)]
    lakes = {layout: dataset.lake(layout) for layout in layouts}
    sizes = {layout: dataset.blob_bytes(layout) for layout in layouts}
    facts = {"paths": len(dataset.members), "nar_bytes": dataset.nar_bytes, "blob_bytes": sizes}
    links = (_TYPICAL,) if plan.quick else (*_CURVE, *_OTHERS)
    with ExitStack() as running:
        report = running.enter_context(Report("b1", "B1, B2, B3: run a program", plan, **facts))
        work = running.enter_context(scratch())
        converted = folders(dataset)
        port = running.enter_context(served(work / "server", lakes | converted))
        for competitor in competitors(f"http://127.0.0.1:{port}", list(converted), work):
            if not plan.quick:
                _verify(competitor, dataset)
        nixes = nix.programs(work / "newer")
        measured = {}
        for number, link in enumerate(links):
            base = work / str(number)
            lake = running.enter_context(proxy(port, base, link))
            measured[link] = _Measuring(report, dataset, lakes | converted, base, lake=lake, link=link)
        for number in plan.rounds():
            _measure_unpacked(report, dataset)
            for link, at in measured.items():
                if link in _CURVE or number % 2 == 0:
                    _measure(at, nixes, everything=number == 0 and link in _CURVE)
        for link in links:
            _compare(report, link, nixes)


def _measure(at: _Measuring, nixes: Mapping[str, str | Path], *, everything: bool) -> None:
    """Let the subjects take their turns."""
    newest = list(nixes)[-1]
    for layout in at.layouts:
        if layout != "xz" or everything:
            at.narfs(layout)
        if layout == "sealed":
            at.taught(layout)
    for name, layout in product(nixes, _COPIED):
        seldom = everything and layout in at.layouts and (name == newest or at.link == _TYPICAL)
        if (name, layout) == (newest, "zstd") or seldom:
            at.nix_copy(name, nixes[name], layout)
    at.competitors(but=() if everything else _SLOW)


def _compare(report: Report, link: Link, nixes: Iterable[str]) -> None:
    for name in nixes:
        for layout in _COPIED:
            for part in (_COLD, _BOTH):
                target = 0.2 if link == _TYPICAL and part == _COLD else None
                for subject in ("narfs sealed", "narfs sealed, profile"):
                    report.ratio(subject, f"{name} {layout}", part, target=target, link=link)
    for layout in _COPIED:
        report.ratio("narfs sealed", f"narfs {layout}", _BOTH, link=link)
    report.ratio("narfs sealed, profile", "narfs sealed", _COLD, link=link)


def _verify(competitor: Competitor, dataset: Dataset) -> None:
    """Compare all it shows with the disk before it is timed, once: that takes it up to minutes."""
    verified = dataset.folder / f"verified-{competitor.name}"
    if not verified.exists():
        log(f"comparing what {competitor.name} shows with the disk (once)")
        with competitor.shown() as shown:
            assert_same(shown.tree, conversions.tree(dataset), exact=competitor.exact)
        verified.touch()


def _measure_unpacked(report: Report, dataset: Dataset) -> None:
    parts, store = program(dataset), conversions.tree(dataset)
    drop_caches()
    report.add("unpacked", "run, cold disk", "s", seconds(partial(parts.run, store)))
    report.add("unpacked", "run, warm", "s", seconds(partial(parts.run, store)))


class _Measuring:
    """All lakes behind one link."""

    def __init__(
        self, report: Report, dataset: Dataset, folders: Mapping[str, Path], base: Path, *, lake: Proxy, link: Link
    ) -> None:
        self._report = report
        self._base = base
        self._lake = lake
        self.link = link
        self._folders = folders
        self._dataset = dataset
        self._program = program(dataset)
        self._copies = 0

    @property
    def layouts(self) -> list[str]:
        """Name the lakes there are."""
        return [layout for layout in _LAYOUTS if layout in self._folders]

    def narfs(self, layout: str) -> None:
        subject, url = f"narfs {layout}", f"{self._lake.url}/{layout}"
        fresh = Narfs((self._dataset,), (url,), self._base, remembers=False)
        before = self._lake.traffic()
        with fresh.shown() as shown:
            started = self._lake.traffic()
            drop_caches(but=self._folders[layout])
            cold_s = seconds(partial(self._program.run, shown.tree.parent))
            self._row(subject, "daemon start", "s", shown.start_s)
            self._row(subject, _COLD, "s", cold_s)
            self._row(subject, _BOTH, "s", shown.start_s + cold_s)
            self._row(subject, "requests at start", "", started.since(before).requests)
            self._traffic(subject, layout, self._lake.traffic().since(before))
            self._row(subject, "run, warm", "s", seconds(partial(self._program.run, shown.tree.parent)))
        again = Narfs((self._dataset,), (url,), self._base)
        before = self._lake.traffic()
        with again.shown() as shown:
            started = self._lake.traffic()
            drop_caches()
            self._row(subject, "B3 daemon start, cache filled", "s", shown.start_s)
            self._row(subject, "B3 run, cache filled", "s", seconds(partial(self._program.run, shown.tree.parent)))
            self._row(subject, "B3 requests at start", "", started.since(before).requests)
            self._row(subject, "B3 requests of the run", "", self._lake.traffic().since(started).requests)

    def taught(self, layout: str) -> None:
        """Run it with an empty cache and the profile of the run before.

        The kernel's caches are dropped before the daemon starts, and the program starts when the mount is usable: so it
        does not find everything there.
        """
        subject, link = f"narfs {layout}, profile", self.link
        site = Narfs((self._dataset,), (f"{self._lake.url}/{layout}",), self._base)
        site.forget()
        drop_caches(but=self._folders[layout])
        before = self._lake.traffic()
        with site.shown() as shown:
            cold_s = seconds(partial(self._program.run, shown.tree.parent))
            warm_s = seconds(partial(self._program.run, shown.tree.parent))
            traffic = self._lake.traffic().since(before)
            counters = site.status()["engine"]["counters"]
        used = counters["ahead_used_bytes"] / counters["ahead_fetched_bytes"]
        least_s = warm_s + 4 * link.rtt_s + used * traffic.bytes_down * 8 / link.bits_per_s
        self._row(subject, "daemon start", "s", shown.start_s)
        self._row(subject, _COLD, "s", cold_s)
        self._row(subject, _BOTH, "s", shown.start_s + cold_s)
        self._row(subject, "run, warm", "s", warm_s)
        self._traffic(subject, layout, traffic)
        target = 1.5 if link == _TYPICAL else None
        self._row(subject, "cold run ÷ (warm + 4 RTT + bytes ÷ bandwidth)", "×", cold_s / least_s, target=target)
        self._row(subject, "fetched ahead and not read", "×", 1 - used, target=0.2)

    def nix_copy(self, name: str, program: str | Path, layout: str) -> None:
        self._copies += 1
        subject, url = f"{name} {layout}", f"{self._lake.url}/{layout}"
        root, home = self._base / f"root-{self._copies}", self._base / f"home-{self._copies}"
        key = datasets.public_key()
        before = self._lake.traffic()
        drop_caches(but=self._folders[layout])
        copy = partial(nix.copy, trusted_public_key=key, program=program)
        copied_s = seconds(partial(copy, url, nix.store_url(root), [self._dataset.top], home))
        ran_s = seconds(partial(self._program.run, root / "nix/store"))
        for measured in (_COLD, _BOTH):
            self._row(subject, measured, "s", copied_s + ran_s)
        self._traffic(subject, layout, self._lake.traffic().since(before))

    def competitors(self, *, but: Container[str]) -> None:
        """Measure them; one that fails costs its own number and no other's."""
        for competitor in competitors(self._lake.url, list(self._folders), self._base):
            if competitor.name not in but:
                try:
                    self._competitor(competitor)
                except (OSError, RuntimeError) as error:
                    log(f"{competitor.name} at {self.link}: {error}")

    def _competitor(self, competitor: Competitor) -> None:
        subject = competitor.name
        before = self._lake.traffic()
        with competitor.shown() as shown:
            drop_caches(but=self._folders["sealed"].parent)
            cold_s = seconds(partial(self._program.run, shown.tree))
            self._row(subject, "daemon start", "s", shown.start_s)
            self._row(subject, _COLD, "s", cold_s)
            self._row(subject, _BOTH, "s", shown.start_s + cold_s)
            self._traffic(subject, None, self._lake.traffic().since(before))
            self._row(subject, "run, warm", "s", seconds(partial(self._program.run, shown.tree)))

    def _traffic(self, subject: str, layout: str | None, traffic: Traffic) -> None:
        self._row(subject, "requests", "", traffic.requests)
        self._row(subject, "fetched ÷ NarSize", "×", traffic.bytes_down / self._dataset.nar_bytes)
        if layout is not None:
            to_file_size = traffic.bytes_down / self._dataset.blob_bytes(layout)
            target = 0.15 if layout == "sealed" else None
            self._row(subject, "fetched ÷ FileSize", "×", to_file_size, target=target)

    def _row(self, subject: str, measure: str, unit: str, value: float, *, target: float | None = None) -> None:
        self._report.add(subject, measure, unit, value, target=target, link=self.link)
