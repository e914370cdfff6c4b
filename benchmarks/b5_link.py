"""B5 over a link: how fast one large file comes from a far lake, through the mount, with an empty cache.

The limit on each link is ``curl | zstd -d`` of the same sealed blob: one connection, one pass, nothing looked at. On
the loopback without a limit it is what one core takes to decompress the frames and to hash what was in them; there
narfs also reads straight from nginx, because the proxy has the processors in common with it.
"""

from __future__ import annotations

import hashlib
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from benchmarks.harness import Report, drop_caches, seconds
from benchmarks.processes import cpu_seconds
from benchmarks.proxy import Link, proxy
from benchmarks.sites import Narfs, scratch, served
from benchmarks.trees import one_file
from benchmarks.workloads import read_large
from narfs.formats.narinfo import NarInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan
    from benchmarks.proxy import Proxy
    from benchmarks.sites import Shown

_FAST = tuple(Link(rtt_s, 1e9) for rtt_s in (0.0002, 0.001, 0.010, 0.050))
_SLOW = tuple(Link(rtt_s, 50e6) for rtt_s in (0.0002, 0.001, 0.010, 0.050))
_LOOPBACK = Link()
_NARFS, _CURL, _CORE = "narfs sealed", "curl | zstd -d", "one core, zstd and sha256"
_NO_PROXY = "narfs sealed, straight from nginx"
_MEASURE = "read"


def run(plan: Plan) -> None:
    large, small = one_file(plan.size(500_000_000, 16_000_000)), one_file(plan.size(50_000_000, 16_000_000))
    links = (_LOOPBACK, *_FAST, *_SLOW) if not plan.quick else (Link(0.010, 1e9), _LOOPBACK)
    facts = {"bytes": large.nar_bytes, "bytes_at_50_mbit": small.nar_bytes, "blob_bytes": large.blob_bytes("sealed")}
    with ExitStack() as running:
        report = running.enter_context(Report("b5-link", "B5: a large file from a far lake", plan, **facts))
        work = running.enter_context(scratch())
        port = running.enter_context(
            served(work / "server", {"large": large.lake("sealed"), "small": small.lake("sealed")})
        )
        measured = []
        for number, link in enumerate(links):
            base = work / str(number)
            lake = running.enter_context(proxy(port, base, link))
            name, dataset = ("small", small) if link in _SLOW else ("large", large)
            measured.append(_Measuring(report, dataset, lake, Narfs((dataset,), (f"{lake.url}/{name}",), base), link))
        straight = Narfs((large,), (f"http://127.0.0.1:{port}/large",), work / "straight")
        straight.work.mkdir()
        for _ in plan.rounds():
            report.add(_CORE, _MEASURE, "s", seconds(partial(_by_one_core, large)), link=_LOOPBACK)
            with _cold(straight, large) as shown:
                report.add(_NO_PROXY, _MEASURE, "s", _read(shown), link=_LOOPBACK)
            for one in measured:
                one.curl()
                one.narfs()
        for link in links:
            if link == _LOOPBACK:
                report.ratio(_NARFS, _CORE, _MEASURE, target=1 / 0.8, link=link)
                report.ratio(_NO_PROXY, _CORE, _MEASURE, target=1 / 0.8, link=link)
            report.ratio(_NARFS, _CURL, _MEASURE, target=None if link == _LOOPBACK else 1 / 0.9, link=link)


class _Measuring(NamedTuple):
    """One lake behind one link."""

    report: Report
    dataset: Dataset
    lake: Proxy
    site: Narfs
    link: Link

    def curl(self) -> None:
        drop_caches(but=self.dataset.lake("sealed"))
        fetch = f"curl --silent --fail {self.site.stores[0]}/{_blob(self.dataset)} | zstd --decompress --stdout"
        took_s = seconds(partial(subprocess.run, f"{fetch} > /dev/null", shell=True, check=True))  # noqa: S604 - ours
        self.report.add(_CURL, _MEASURE, "s", took_s, link=self.link)

    def narfs(self) -> None:
        with _cold(self.site, self.dataset) as shown:
            before, processor_before_s = self.lake.traffic(), cpu_seconds(shown.pid)
            took_s = _read(shown)
            told, processor_s = self.lake.traffic().since(before), cpu_seconds(shown.pid) - processor_before_s
        fetched = told.bytes_down / self.dataset.blob_bytes("sealed")
        for measure, unit, value in (
            (_MEASURE, "s", took_s),
            ("processor", "s", processor_s),
            ("requests", "", told.requests),
            ("fetched ÷ blob", "×", fetched),
        ):
            self.report.add(_NARFS, measure, unit, value, link=self.link)


@contextmanager
def _cold(site: Narfs, dataset: Dataset) -> Iterator[Shown]:
    """Show the file with nothing of it anywhere near."""
    with replace(site, remembers=False).shown() as shown:
        drop_caches(but=dataset.lake("sealed"))
        yield shown


def _read(shown: Shown) -> float:
    return seconds(partial(read_large, shown.tree / "file", 1))


def _blob(dataset: Dataset) -> str:
    lake = dataset.lake("sealed")
    return NarInfo.parse((lake / f"{dataset.top.hash_part}.narinfo").read_bytes(), expect=dataset.top.hash_part).url


def _by_one_core(dataset: Dataset) -> None:
    with (
        (dataset.lake("sealed") / _blob(dataset)).open("rb") as blob,
        zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True) as nar,
    ):
        while chunk := nar.read(1 << 18):
            hashlib.sha256(chunk).digest()
