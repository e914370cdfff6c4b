"""prefetch-p99: what a program waits for while something else is fetched ahead, against what it waits alone.

One reader asks for 128 KiB (what the kernel asks for) at random places of a file in a sealed lake, each in a chunk that
nobody has, one after the other; once alone, and once while ``bring`` fetches another NAR. Engine, cache and HTTP are
the daemon's, in one process with one event loop as there; the kernel is left out, whose part is the same in both.
"""

from __future__ import annotations

import random
import shutil
import statistics
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from benchmarks import datasets
from benchmarks.harness import Report
from benchmarks.proxy import Link, proxy
from benchmarks.sites import scratch, served
from benchmarks.trees import one_file
from narfs.cache.chunk_cache import ChunkCache
from narfs.engine.ahead.bringing import Allowance, Want, bring
from narfs.engine.store import open_store, open_workers
from narfs.engine.trust import TrustPolicy, Verify
from narfs.formats.signature import PublicKeys
from narfs.lake.settings import LakeSettings
from narfs.lake.upstreams import open_lakes
from narfs.offsets import CHUNK_BYTES, NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan
    from narfs.engine.accessor import NarAccessor
    from narfs.engine.store import Store

_LINKS = (*(Link(rtt_s, 1e9) for rtt_s in (0.0002, 0.001, 0.010, 0.050)), Link(0.010, 50e6), Link(0.050, 50e6))
_READ_BYTES = 128 * 1024
_WARM_UP = 10
_QUANTILES = (50, 99)
_ALONE, _BESIDE = "alone", "beside a prefetch"


def run(plan: Plan) -> None:
    read, brought = one_file(plan.size(500_000_000, 50_000_000)), one_file(plan.size(1 << 30, 60_000_000))
    links = _LINKS[2:3] if plan.quick else _LINKS
    reads = plan.size(300, 100)
    with ExitStack() as running:
        report = running.enter_context(
            Report("prefetch-p99", "prefetch-p99: reads beside a prefetch", plan, reads=reads)
        )
        work = running.enter_context(scratch())
        lakes = {"read": read.lake("sealed"), "brought": brought.lake("sealed")}
        port = running.enter_context(served(work / "server", lakes))
        measured = []
        for number, link in enumerate(links):
            lake = running.enter_context(proxy(port, work / str(number), link))
            measured.append(_Measuring(report, link, lake.url, (read, brought), work / "cache", reads))
        for seed in plan.rounds():
            for one in measured:
                for subject in (_ALONE, _BESIDE):
                    shutil.rmtree(one.cache, ignore_errors=True)
                    trio.run(one.run, subject, seed)
        for link in links:
            for quantile in _QUANTILES:
                target = 1.1 if quantile == 99 else None
                report.ratio(_BESIDE, _ALONE, f"p{quantile}", target=target, link=link)


class _Measuring(NamedTuple):
    """Two lakes behind one link: what is read, and what is brought meanwhile."""

    report: Report
    link: Link
    url: str
    members: tuple[Dataset, Dataset]
    cache: Path
    reads: int

    async def run(self, subject: str, seed: int) -> None:
        async with (
            _opened((f"{self.url}/read", f"{self.url}/brought"), self.cache) as store,
            trio.open_nursery() as nursery,
        ):
            read, brought = [await store.find(member.top) for member in self.members]
            await read.settle()
            await brought.settle()
            chunks = range(read.nar_size // CHUNK_BYTES - 1)
            places = random.Random(seed).sample(chunks, self.reads + _WARM_UP)  # noqa: S311 - repeatable
            await _latencies(read, places[self.reads :])
            begun = time.perf_counter()
            if subject == _BESIDE:
                whole = NarSpan(NarOffset(0), NarOffset(brought.nar_size))
                nursery.start_soon(bring, [Want(brought, whole)], Allowance())
            took = await _latencies(read, places[: self.reads])
            ahead = store.statistics().counters.ahead_fetched_bytes / (time.perf_counter() - begun)
            nursery.cancel_scope.cancel()
        cuts = statistics.quantiles(took, n=100)
        for quantile in _QUANTILES:
            self.report.add(subject, f"p{quantile}", "ms", cuts[quantile - 1] * 1e3, link=self.link)
        if subject == _BESIDE:
            self.report.add(subject, "fetched ahead meanwhile", "MB/s of NAR", ahead / 1e6, link=self.link)


async def _latencies(accessor: NarAccessor, chunks: list[int]) -> list[float]:
    took = []
    for chunk in chunks:
        begun = time.perf_counter()
        await accessor.read(NarOffset(chunk * CHUNK_BYTES), _READ_BYTES)
        took.append(time.perf_counter() - begun)
    return took


@asynccontextmanager
async def _opened(urls: tuple[str, ...], directory: Path) -> AsyncIterator[Store]:
    keys = PublicKeys.parse(datasets.public_key())
    async with AsyncExitStack() as opened:
        nursery = await opened.enter_async_context(trio.open_nursery())
        lakes = await opened.enter_async_context(open_lakes(urls, LakeSettings()))
        cache = await ChunkCache.open(directory, budget_bytes=20 << 30, keep_free_bytes=0, nursery=nursery)
        opened.push_async_callback(cache.aclose)
        workers = await opened.enter_async_context(open_workers(1))
        trust = TrustPolicy(keys, Verify.STRICT, keys)
        yield await opened.enter_async_context(open_store(lakes, cache, trust, workers))
