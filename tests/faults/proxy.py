"""A proxy in front of a real lake that misbehaves on order, and counts by kind of fault what that hit.

``python -m tests.faults.proxy DIRECTORY`` starts nginx on a lake and itself before it; with ``--name`` it speaks TLS
under that name, and is the name server that knows it. It prints where it is as one line of JSON and then takes orders,
a line in and a line out (``lake`` is the other side). What nobody ordered to be wrong passes as nginx sends it.
"""

from __future__ import annotations

import json
import random
import ssl
import sys
from argparse import ArgumentParser
from collections import Counter
from contextlib import aclosing, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11
import trio
import trustme

from tests.faults.answers import Answer, Asked, Broken, Meddling, make_up
from tests.faults.kinds import CONNECTING, Kind, Order
from tests.faults.names import NameServer
from tests.nix.nginx import nginx
from tests.support.server import make_close_a_reset, next_event, send_head

if TYPE_CHECKING:
    from collections.abc import Sequence


class Proxy:
    """Between clients and nginx, which serves ``lake`` at ``lake_port``.

    ``doors`` are TLS with the right certificate, then with wrong ones; none: without TLS.
    """

    def __init__(self, lake: Path, lake_port: int, seed: int = 0, doors: Sequence[ssl.SSLContext] = ()) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - lots, no secrets
        self.names = NameServer(self.chance)
        self.port = self.trap_port = 0
        self.trapped = 0
        """Connections to where a redirect off the lake leads."""
        self._lake, self._lake_port, self._doors = lake, lake_port, doors
        self._wrongs: list[Meddling] = []
        self._requests: Counter[Kind] = Counter()
        self._reads: Counter[Kind] = Counter()
        self._connections: set[trio.SocketStream] = set()
        self._listening = trio.CancelScope()
        self._open = trio.Event()
        self._shut = trio.Event()
        self._refused_before = 0

    async def begin(self, order: Order) -> None:
        """Be wrong, from when this returns. If connections are to go wrong, those that there are end."""
        self._wrongs.append(Meddling(order))
        if order.kind is Kind.REFUSE:
            self._refused_before = _failed_connects()
            self._open, self._shut = trio.Event(), trio.Event()
            self._listening.cancel()
            await self._shut.wait()
        if order.kind is Kind.DNS:
            self.names.failing = True
        if order.kind in CONNECTING:
            self._drop()

    async def end(self, kind: Kind | None) -> None:
        """Let this be right again, or everything; returns when it is."""
        for wrong in [wrong for wrong in self._wrongs if kind in (None, wrong.order.kind)]:
            self._wrongs.remove(wrong)
            wrong.ended.set()
            if wrong.order.kind is Kind.REFUSE:
                self._count(Kind.REFUSE, times=_failed_connects() - self._refused_before)
            if wrong.order.kind is Kind.DNS:
                self.names.failing = False
        if self._wrong(Kind.REFUSE) is None:
            await self._open.wait()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Give requests and reads that were hit, by kind."""
        self._requests[Kind.DNS] = self._reads[Kind.DNS] = self.names.failed
        return {kind.value: (self._requests[kind], self._reads[kind]) for kind in Kind}

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, but for when that is to be refused."""
        async with trio.open_nursery() as nursery:
            trap: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, self._spring, 0)
            self.trap_port = trap[0].socket.getsockname()[1]
            while True:
                listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
                self.port = listeners[0].socket.getsockname()[1]
                self._open.set()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                with trio.CancelScope() as self._listening:
                    await trio.serve_listeners(self._converse, listeners, handler_nursery=nursery)
                self._drop()
                self._shut.set()
                while (wrong := self._wrong(Kind.REFUSE)) is not None:
                    await wrong.ended.wait()

    async def _spring(self, stream: trio.SocketStream) -> None:
        self.trapped += 1
        await stream.aclose()

    def _wrong(self, kind: Kind) -> Meddling | None:
        return next((wrong for wrong in self._wrongs if wrong.order.kind is kind), None)

    def _drop(self) -> None:
        for connection in [*self._connections]:
            with suppress(OSError):
                make_close_a_reset(connection)
            connection.socket.close()

    def _draw(self, path: str) -> Meddling | None:
        """Draw what is to be wrong with a request."""
        for wrong in self._wrongs:
            order = wrong.order
            fits = order.kind not in CONNECTING and fnmatchcase(path, order.pattern) and wrong.left != 0
            if fits and self.chance.random() < order.share:
                return wrong
        return None

    def _count(self, kind: Kind, path: str = "/nar/", times: int = 1) -> None:
        self._requests[kind] += times
        self._reads[kind] += times * path.startswith("/nar/")

    async def _converse(self, connection: trio.SocketStream) -> None:
        self._connections.add(connection)
        stream: trio.abc.Stream = connection
        if self._doors:
            door = self._doors[0]
            if self._wrong(Kind.CERTIFICATE) is not None:
                self._count(Kind.CERTIFICATE)
                door = self.chance.choice(self._doors[1:])
            stream = trio.SSLStream(connection, door, server_side=True, https_compatible=True)
        try:
            with suppress(Broken, h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
                while await self._one_request(stream):
                    pass
        finally:
            self._connections.discard(connection)
            await trio.aclose_forcefully(stream)

    async def _one_request(self, stream: trio.abc.Stream) -> bool:
        """Answer; False at the end of the connection."""
        connection = h11.Connection(h11.SERVER)
        request = await next_event(connection, stream)
        if not isinstance(request, h11.Request):
            return False
        asked = Asked.of(request)
        wrong = self._draw(asked.path)
        if wrong is not None and not wrong.can_befall(asked, self._lake):
            wrong = None
        if wrong is not None:
            self._count(wrong.order.kind, asked.path)
            wrong.left = None if wrong.left is None else wrong.left - 1
            if (made_up := make_up(wrong.order.kind, asked, self.chance, self.trap_port)) is not None:
                await send_head(stream, *made_up[:2])
                await stream.send_all(made_up[2])
                return True
        question = asked if wrong is None else wrong.question(asked, self._lake, self.chance)
        async with Answer(self._lake_port, question) as answer:
            if wrong is None:
                await send_head(stream, answer.status, answer.told)
                async with aclosing(answer.body()) as body:
                    async for data in body:
                        await stream.send_all(data)
            else:
                await wrong.pass_on(answer, asked, stream, self.chance)
        return True


def _failed_connects() -> int:
    """Count connections that this network namespace has refused so far: nobody else sees one that was."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line[:4] == "Tcp:")
    return int(values[names.index("AttemptFails")])


def _doors(name: str, authority_file: Path) -> list[ssl.SSLContext]:
    """Make TLS of one certificate that is right and two that are not; the authority of the first goes to the file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(authority_file)
    certificates = [authority.issue_cert(name), trustme.CA().issue_cert(name), authority.issue_cert("elsewhere.test")]
    doors = []
    for certificate in certificates:
        doors.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        certificate.configure_cert(doors[-1])
    return doors


async def _take_orders(proxy: Proxy) -> None:
    """Do what is said on standard input, until it ends."""
    buffer = b""
    async with trio.lowlevel.FdStream(0) as orders:
        while data := await orders.receive_some():
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                answer = await _obey(proxy, json.loads(line))
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()


async def _obey(proxy: Proxy, told: dict[str, Any]) -> object:
    if "begin" in told:
        await proxy.begin(Order.from_json(told["begin"]))
    elif "end" in told:
        await proxy.end(told["end"] and Kind(told["end"]))
    return {"counts": proxy.counts(), "trapped": proxy.trapped}


async def _main(lake: Path, lake_port: int, seed: int, name: str | None, authority_file: Path) -> None:
    proxy = Proxy(lake, lake_port, seed, [] if name is None else _doors(name, authority_file))
    async with trio.open_nursery() as nursery:
        if name is not None:
            await nursery.start(proxy.names.serve)
        await nursery.start(proxy.serve)
        url = f"http://127.0.0.1:{proxy.port}" if name is None else f"https://{name}:{proxy.port}"
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
        await _take_orders(proxy)
        nursery.cancel_scope.cancel()


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.faults.proxy", description=__doc__.partition("\n")[0])
    parser.add_argument("lake", type=Path, help="a binary cache in a directory")
    parser.add_argument("work", type=Path, help="where nginx keeps its files, and the authority's certificate goes")
    parser.add_argument("--seed", type=int, default=0, help="of the lots it draws")
    parser.add_argument("--name", help="speak TLS under this name, and resolve it on 127.0.0.1:53")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    with nginx(given.work / "nginx", given.lake) as url:
        port = int(url.rpartition(":")[2])
        trio.run(_main, given.lake, port, given.seed, given.name, given.work / "authority.pem")


if __name__ == "__main__":
    main()
