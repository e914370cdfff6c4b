"""What the client benchmarks ask of a transport: small objects, ranges, one stream; what it costs the asking process.

Processor time is that of this process, all threads: on a machine where the server shares the cores it is the number to
compare, and requests a second say little.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import trio

from narfs.offsets import BlobOffset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from benchmarks.harness import Report
    from narfs.lake.transport import Transport

PARALLEL = 8
SMALL_BYTES = 700
MEASURES = ("CPU, 700 B", "CPU, 256 KiB ranges", "CPU, 1 MiB ranges", "CPU, stream")


async def measure(
    report: Report, subject: str, opened: AbstractAsyncContextManager[Transport], requests: int, blob_bytes: int
) -> None:
    """Ask for ``small`` and for parts of ``blob``, PARALLEL at a time, then for all of ``blob``."""
    chance = random.Random(0)  # noqa: S311 - repeatable
    async with opened as lake:

        async def small() -> None:
            await lake.get("small", max_bytes=SMALL_BYTES)

        def ranges(length: int) -> Callable[[], Awaitable[None]]:
            async def one() -> None:
                await lake.read_range("blob", BlobOffset(chance.randrange(blob_bytes - length)), length)

            return one

        for name, once, count, length in (
            ("700 B", small, requests, SMALL_BYTES),
            ("256 KiB ranges", ranges(256 * 1024), requests, 256 * 1024),
            ("1 MiB ranges", ranges(1024 * 1024), requests // 4, 1024 * 1024),
        ):
            await once()
            seconds, cpu_s = await _times(once, count)
            report.add(subject, f"rate, {name}", "1/s", count / seconds)
            report.add(subject, f"bytes, {name}", "MB/CPU s", count * length / cpu_s / 1e6)
            report.add(subject, f"CPU, {name}", "ms/request", cpu_s / count * 1000)

        async def stream() -> None:
            async with lake.stream("blob") as pieces:
                async for _ in pieces:
                    pass

        seconds, cpu_s = await _times(stream, 1)
        report.add(subject, "bytes, stream", "MB/CPU s", blob_bytes / cpu_s / 1e6)
        report.add(subject, "CPU, stream", "ms/MiB", cpu_s / (blob_bytes >> 20) * 1000)
        report.add(subject, "speed, stream", "MB/s", blob_bytes / seconds / 1e6)


async def _times(once: Callable[[], Awaitable[None]], count: int) -> tuple[float, float]:
    """Do it ``count`` times, PARALLEL at a time; give seconds and seconds of processor time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await once()

    begun, cpu_begun = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(min(PARALLEL, count)):
            nursery.start_soon(worker)
    return time.perf_counter() - begun, time.process_time() - cpu_begun
