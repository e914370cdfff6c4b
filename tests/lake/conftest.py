from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lake.fake_server import FakeServer

if TYPE_CHECKING:
    import trio


@pytest.fixture(params=["direct", "proxied"])
def server(nursery: trio.Nursery, request: pytest.FixtureRequest) -> FakeServer:
    return FakeServer(nursery, proxied=request.param == "proxied")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
