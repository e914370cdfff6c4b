"""s3-client: which client should ask S3? narfs's transport over obstore against its HTTP transport with a signature.

Both ask the same real server (versitygw) for the same objects.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import trio

from benchmarks.asking import MEASURES, PARALLEL, SMALL_BYTES, measure
from benchmarks.harness import Report
from benchmarks.sites import scratch
from narfs.lake.client import LakeClient, make_client
from narfs.lake.http import HttpTransport
from narfs.lake.s3 import S3Transport
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl
from tests.support.s3 import ACCESS_KEY, REGION, SECRET_KEY, run_s3_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from benchmarks.harness import Plan
    from narfs.lake.transport import Transport
    from tests.support.s3 import S3Server

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
    facts = {"parallel": PARALLEL, "blob": blob_bytes, "requests": requests}
    with (
        Report("s3_client", "s3-client: who should ask S3?", plan, **facts) as report,
        scratch() as work,
        run_s3_server(work) as server,
    ):
        bucket = server.bucket("lake")
        (bucket / "small").write_bytes(bytes(SMALL_BYTES))
        (bucket / "blob").write_bytes(os.urandom(blob_bytes))
        os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        for _ in plan.rounds():
            for subject, opened in (("obstore", _obstore), ("httpx + signature", _httpx)):
                trio.run(measure, report, subject, opened(server), requests, blob_bytes)
        for name in MEASURES:
            report.ratio("obstore", "httpx + signature", name, target=1.0)


@asynccontextmanager
async def _obstore(server: S3Server) -> AsyncIterator[Transport]:
    yield S3Transport(StoreUrl.parse(server.url("lake")), LakeSettings(), os.environ)


@asynccontextmanager
async def _httpx(server: S3Server) -> AsyncIterator[Transport]:
    settings = LakeSettings()
    async with make_client(settings, tls=False, environ={}) as client:
        client.through.client.auth = Signature()
        all_through_httpx = LakeClient(client.direct, lambda: client.through, frozenset({"http"}))
        yield HttpTransport(all_through_httpx, StoreUrl.parse(f"{server.endpoint}/lake"), settings)
