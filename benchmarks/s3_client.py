"""s3-client: which client should ask S3? narfs's transport over obstore against its HTTP transport with a signature.

Both ask the same real server (versitygw) for the same objects: small ones, and ranges of 256 KiB and 1 MiB, eight at a
time; then one stream of the whole blob. Processor time is that of this process, all threads: on a machine where the
server shares the cores it is the number to compare, and requests a second say little.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import trio

from benchmarks.harness import Report
from benchmarks.sites import scratch
from narfs.lake.client import make_client
from narfs.lake.http import HttpTransport
from narfs.lake.s3 import S3Transport
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl
from narfs.offsets import BlobOffset
from tests.support.s3 import ACCESS_KEY, REGION, SECRET_KEY, run_s3_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator
    from contextlib import AbstractAsyncContextManager

    from benchmarks.harness import Plan
    from narfs.lake.transport import Transport
    from tests.support.s3 import S3Server

_PARALLEL = 8
_SMALL_BYTES = 700
_EMPTY = hashlib.sha256(b"").hexdigest()


class Signature(httpx.Auth):
    """SigV4 of requests without a body: the least that a signing library could do (20 µs; botocore takes 120)."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign one request."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {"host": request.headers["host"], "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = f"{request.method}\n{request.url.raw_path.decode()}\n\n{lines}\n{names}\n{_EMPTY}"
        scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
        key = f"AWS4{SECRET_KEY}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        request.headers.update(signed)
        request.headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        yield request


def run(plan: Plan) -> None:
    blob_bytes = plan.size(256, 16) * 1024 * 1024
    requests = plan.size(1000, 50)
    report = Report(
        "s3_client", "s3-client: who should ask S3?", plan, parallel=_PARALLEL, blob=blob_bytes, requests=requests
    )
    with scratch() as work, run_s3_server(work) as server:
        bucket = server.bucket("lake")
        (bucket / "small").write_bytes(bytes(_SMALL_BYTES))
        (bucket / "blob").write_bytes(os.urandom(blob_bytes))
        os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        for _ in range(plan.runs):
            for subject, opened in (("obstore", _obstore), ("httpx + signature", _httpx)):
                trio.run(_measure, report, subject, opened(server), requests, blob_bytes)
    for measure in ("CPU, 700 B", "CPU, 256 KiB ranges", "CPU, 1 MiB ranges", "CPU, stream"):
        report.ratio("obstore", "httpx + signature", measure, target=1.0)
    report.finish()


@asynccontextmanager
async def _obstore(server: S3Server) -> AsyncIterator[Transport]:
    yield S3Transport(StoreUrl.parse(server.url("lake")), LakeSettings(), os.environ)


@asynccontextmanager
async def _httpx(server: S3Server) -> AsyncIterator[Transport]:
    settings = LakeSettings()
    async with make_client(settings, tls=False, environ={}) as client:
        transport = HttpTransport(client, StoreUrl.parse(f"{server.endpoint}/lake"), settings)
        transport._exchange._auth = Signature()  # noqa: SLF001 - what a signed transport would be, without building it
        yield transport


async def _measure(
    report: Report, subject: str, opened: AbstractAsyncContextManager[Transport], requests: int, blob_bytes: int
) -> None:
    chance = random.Random(0)  # noqa: S311 - repeatable
    async with opened as lake:

        async def small() -> None:
            await lake.get("small", max_bytes=_SMALL_BYTES)

        def ranges(length: int) -> Callable[[], Awaitable[None]]:
            async def one() -> None:
                await lake.read_range("blob", BlobOffset(chance.randrange(blob_bytes - length)), length)

            return one

        for name, once, count, length in (
            ("700 B", small, requests, _SMALL_BYTES),
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
    """Do it ``count`` times, _PARALLEL at a time; give seconds and seconds of processor time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await once()

    begun, cpu_begun = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(min(_PARALLEL, count)):
            nursery.start_soon(worker)
    return time.perf_counter() - begun, time.process_time() - cpu_begun
