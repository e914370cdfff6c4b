"""http-client: who should ask an HTTP server? narfs's own direct client, httpx or obstore, with and without TLS.

All ask the same real nginx for the same objects. Direct and httpx are narfs's transport over either; obstore is the
library alone, in threads, without anything a lake needs besides: it follows redirects to other origins, takes no
chunked body and no answer 200 to a range, and gives a short body as if it were whole.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import obstore
import trio
import trustme
from obstore.store import HTTPStore

from benchmarks.asking import MEASURES, PARALLEL, SMALL_BYTES, measure
from benchmarks.harness import Report
from benchmarks.processes import nginx
from benchmarks.sites import scratch
from narfs.lake.client import LakeClient, make_client
from narfs.lake.http import HttpTransport
from narfs.lake.pieces import PIECE_BYTES
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

    from obstore.store import ClientConfig

    from benchmarks.harness import Plan
    from narfs.lake.transport import Transport
    from narfs.offsets import BlobOffset


def run(plan: Plan) -> None:
    blob_bytes = plan.size(256, 16) * 1024 * 1024
    requests = plan.size(1000, 50)
    facts = {"parallel": PARALLEL, "blob": blob_bytes, "requests": requests}
    subjects = {"direct": _direct, "httpx": _httpx, "obstore": _obstore}
    with (
        Report("http_client", "http-client: who should ask HTTP?", plan, **facts) as report,
        scratch() as work,
        ExitStack() as running,
    ):
        root, bundle, certificate = work / "root", work / "ca.pem", work / "localhost.pem"
        root.mkdir()
        (root / "small").write_bytes(bytes(SMALL_BYTES))
        (root / "blob").write_bytes(os.urandom(blob_bytes))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(bundle))
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        plain = running.enter_context(nginx(root, work / "plain"))
        secure = running.enter_context(nginx(root, work / "secure", certificate=certificate))
        urls = {"http": f"http://localhost:{plain}", "https": f"https://localhost:{secure}"}
        for _ in plan.rounds():
            for scheme, url in urls.items():
                for subject, opened in subjects.items():
                    trio.run(measure, report, f"{subject}, {scheme}", opened(url, bundle), requests, blob_bytes)
        for scheme in urls:
            for name in MEASURES:
                report.ratio(f"direct, {scheme}", f"httpx, {scheme}", name, target=0.67)
                report.ratio(f"direct, {scheme}", f"obstore, {scheme}", name)


@asynccontextmanager
async def _direct(url: str, bundle: Path) -> AsyncIterator[Transport]:
    settings = LakeSettings(ssl_cert_file=bundle)
    async with make_client(settings, tls=True, environ={}) as client:
        ours = LakeClient(client.direct, lambda: client.through, frozenset())
        yield HttpTransport(ours, StoreUrl.parse(url), settings)


@asynccontextmanager
async def _httpx(url: str, bundle: Path) -> AsyncIterator[Transport]:
    settings = LakeSettings(ssl_cert_file=bundle)
    async with make_client(settings, tls=True, environ={}) as client:
        all_through_httpx = LakeClient(client.direct, lambda: client.through, frozenset({"http", "https"}))
        yield HttpTransport(all_through_httpx, StoreUrl.parse(url), settings)


@asynccontextmanager
async def _obstore(url: str, bundle: Path) -> AsyncIterator[Any]:
    yield _Obstore(url, bundle)


class _Obstore:
    """The three reading methods of a transport, as short as can be."""

    def __init__(self, url: str, bundle: Path) -> None:
        options: ClientConfig = {"allow_http": True, "root_certificate": bundle.read_bytes()}
        self._store = HTTPStore(url, client_options=options)

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        del max_bytes
        return await trio.to_thread.run_sync(lambda: obstore.get(self._store, name).bytes().to_bytes())

    async def read_range(self, name: str, start: BlobOffset, length: int) -> bytes:
        def read() -> bytes:
            return obstore.get_range(self._store, name, start=start, length=length).to_bytes()

        return await trio.to_thread.run_sync(read)

    @asynccontextmanager
    async def stream(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        chunks = obstore.get(self._store, name).stream(min_chunk_size=PIECE_BYTES)

        async def pieces() -> AsyncIterator[bytes]:
            while (chunk := await trio.to_thread.run_sync(lambda: next(chunks, None))) is not None:
                yield bytes(chunk)

        yield pieces()
