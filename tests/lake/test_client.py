from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from narfs.errors import Unavailable, UsageError
from narfs.lake.client import credentials, make_client
from narfs.lake.http import HttpTransport
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl
from narfs.lake.upstreams import open_lakes
from tests.lake.fake_server import FakeServer, transport

if TYPE_CHECKING:
    from pathlib import Path

LAKE = StoreUrl.parse("http://lake.test")


async def test_netrc_credentials_are_sent_with_the_first_request_to_their_host_only(
    server: FakeServer, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine lake.test\nlogin me\npassword secret\n")
    settings = LakeSettings(netrc_file=netrc)
    server.objects["x"] = b"x"
    await transport(server, settings).get("x", max_bytes=10)
    await transport(server, settings, "http://other.test").get("x", max_bytes=10)
    assert server.requests[0].headers["authorization"] == "Basic bWU6c2VjcmV0"
    assert "authorization" not in server.requests[1].headers


def test_a_netrc_file_that_is_not_there_is_none_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert credentials(LAKE, LakeSettings(netrc_file=tmp_path / "none")) == {}
    (tmp_path / "netrc").write_text("machine\nlogin password machine what\n\xff")
    with pytest.raises(UsageError, match="netrc"):
        credentials(LAKE, LakeSettings(netrc_file=tmp_path / "netrc"))


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_a_certificate_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(UsageError, match=r"ca\.pem"):
        make_client(LakeSettings(ssl_cert_file=bundle), tls=True, environ={})


@pytest.mark.parametrize("proxy", ["gopher://proxy.test", "socks5://proxy.test"])
def test_a_proxy_variable_that_makes_no_sense_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UsageError, match="proxy"):
        make_client(LakeSettings(), tls=False, environ={})


async def test_an_exception_from_proxies_that_makes_no_sense_is_heard_of_by_the_first_upload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "lake.test:port")
    async with make_client(LakeSettings(), tls=False, environ={}) as client:
        with pytest.raises(UsageError, match="proxy variable"):
            await client.ask("PUT", "http://lake.test/x", headers={}, content=b"")


async def test_the_proxy_of_the_environment_is_asked_and_its_exceptions_are_not(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        asked.append(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
        await stream.aclose()

    listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, proxy, 0)
    port = listeners[0].socket.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "localhost")
    for host in ("far.test", f"localhost:{port}"):
        async with make_client(LakeSettings(), tls=False, environ={}) as client:
            assert await HttpTransport(client, StoreUrl.parse(f"http://{host}"), LakeSettings()).get("y", max_bytes=9)
    assert [request.partition(b" HTTP")[0] for request in asked] == [b"GET http://far.test/y", b"GET /y"]


@pytest.mark.parametrize("by", ["setting", "NIX_SSL_CERT_FILE", "SSL_CERT_FILE"])
async def test_https_is_believed_by_the_chosen_authorities(nursery: trio.Nursery, tmp_path: Path, by: str) -> None:
    authority = trustme.CA()
    url = await nursery.start(_serve_tls, authority.issue_cert("localhost"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    bundle = tmp_path / "ca.pem"
    settings = LakeSettings(ssl_cert_file=bundle if by == "setting" else None)
    environ = {} if by == "setting" else {by: str(bundle)}
    async with make_client(settings, tls=True, environ=environ) as client:
        lake = HttpTransport(client, StoreUrl.parse(url), settings)
        assert await lake.get("x", max_bytes=10) == b"secure"


async def test_a_certificate_nobody_vouches_for_is_said_at_once(nursery: trio.Nursery) -> None:
    url = await nursery.start(_serve_tls, trustme.CA().issue_cert("localhost"))
    async with make_client(LakeSettings(), tls=True, environ={}) as client:
        lake = HttpTransport(client, StoreUrl.parse(url), LakeSettings())
        with pytest.raises(Unavailable, match="certificate is not trusted"):
            await lake.get("x", max_bytes=10)
        assert lake.statistics().requests_total == 1


async def test_nobody_there_is_unavailable(autojump_clock: object) -> None:  # noqa: ARG001 - pytest-trio finds it here
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    async with open_lakes([f"http://127.0.0.1:{port}"]) as upstreams:
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
            await upstreams.narinfo("0" * 32, lambda _lake, _narinfo: True)
        assert upstreams.lakes[0].statistics().requests_total >= 5


async def _serve_tls(
    certificate: trustme.LeafCert, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure")
        except trio.BrokenResourceError:
            pass

    plain = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listeners = [trio.SSLListener(listener, context, https_compatible=True) for listener in plain]
    port = plain[0].socket.getsockname()[1]
    task_status.started(f"https://localhost:{port}")
    await trio.serve_listeners(answer, listeners)
