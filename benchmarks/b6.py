"""B6: random reads in one large member, by how the lake keeps its NAR.

Each read is of 4 KiB or 256 KiB at a random place, one after the other, with O_DIRECT: the kernel keeps no page and
reads nothing ahead, so the daemon gets what is asked for. The cache has the index and nothing of the contents. A sealed
lake gives that index by itself. Of the others narfs learns tree, digests and frames in a first pass, which is a row of
its own; then the contents are evicted, which a solid blob (xz) answers with another pass at the first read.
"""

from __future__ import annotations

import mmap
import os
import random
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.harness import Report, drop_caches, seconds
from benchmarks.processes import nginx
from benchmarks.proxy import Link, proxy
from benchmarks.sites import Narfs, scratch
from benchmarks.trees import one_file
from narfs.cache.nar_file import NarFile
from narfs.cache.places import Places

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan
    from benchmarks.proxy import Proxy

_LINKS = (Link(), Link(0.010, 1e9))
_LAYOUTS = ("none", "sealed", "frames", "xz")
_READS = {4 << 10: 200, 256 << 10: 100}


def run(plan: Plan) -> None:
    dataset = one_file(plan.size(1 << 30, 16_000_000))
    layouts = _LAYOUTS[: plan.size(4, 2)]
    sizes = {layout: dataset.blob_bytes(layout) for layout in layouts}
    facts = {"bytes": dataset.nar_bytes, "blob_bytes": sizes}
    with Report("b6", "B6: random reads in one member", plan, **facts) as report, scratch() as work:
        for part, (link, layout) in plan.over(list(product(_LINKS[: plan.size(2, 1)], layouts))):
            base = work / f"{layout}, {link}"
            with nginx(dataset.lake(layout), base / "nginx") as port, proxy(port, base / "proxy", link) as lake:
                one = _Measuring(report, dataset, layout, link, lake, Narfs((dataset,), (lake.url,), base))
                one.first_pass()
                for seed in part.rounds():
                    for length, count in _READS.items():
                        one.reads(length, count // plan.size(1, 10), seed)


class _Measuring(NamedTuple):
    """One layout behind one link."""

    report: Report
    dataset: Dataset
    layout: str
    link: Link
    lake: Proxy
    site: Narfs

    def first_pass(self) -> None:
        with self.site.shown() as shown:
            drop_caches(but=self.dataset.lake(self.layout))
            before = self.lake.traffic()
            self._row("first listing", "s", seconds(partial(os.listdir, shown.tree)))
            self._row("first listing, fetched", "MB", self.lake.traffic().since(before).bytes_down / 1e6)

    def reads(self, length: int, count: int, seed: int) -> None:
        _evict_contents(self.site, self.dataset)
        places = _places(self.dataset.nar_bytes - length, count, seed)
        with self.site.shown() as shown:
            drop_caches(but=self.dataset.lake(self.layout))
            before = self.lake.traffic()
            took_s = seconds(partial(_read_each, shown.tree / "file", places, length))
            told = self.lake.traffic().since(before)
        name = f"{length >> 10} KiB"
        self._row(name, "reads/s", count / took_s)
        self._row(f"{name}, requests", "per read", told.requests / count)
        self._row(f"{name}, fetched ÷ read", "×", told.bytes_down / (count * length))

    def _row(self, measure: str, unit: str, value: float) -> None:
        self.report.add(self.layout, measure, unit, value, link=self.link)


def _evict_contents(site: Narfs, dataset: Dataset) -> None:
    """Leave of the cache what knows the NAR, and of its contents nothing; the daemon must not run."""
    for member in dataset.members:
        key = bytes.fromhex(member.nar_hash_hex)
        file, _ = NarFile.open(Places(site.cache).names(key), key)
        file.evict(range(file.layout.segments))


def _places(end: int, count: int, seed: int) -> list[int]:
    chance = random.Random(seed)  # noqa: S311 - repeatable
    return [chance.randrange(end // mmap.PAGESIZE) * mmap.PAGESIZE for _ in range(count)]


def _read_each(file: Path, places: list[int], length: int) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, length) as buffer:  # O_DIRECT wants an aligned one
            for place in places:
                os.preadv(descriptor, [buffer], place)
    finally:
        os.close(descriptor)
