from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs.daemon import nix_socket
from narfs.daemon.known_paths import ClosedSet
from narfs.daemon.nix_socket import serving_nix
from narfs.errors import UsageError
from narfs.formats.narinfo import NarInfo
from narfs.formats.store_path import StorePath
from narfs.formats.worker_protocol import LAST, Operation, integer, missing, path_info, paths, string
from narfs.mount.view import View
from tests.mount.kernel import cut_off_in_time, mounted, needs_fuse
from tests.mount.model import MemoryAccessor
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GREETING = integer(0x6E697863) + integer(1 << 8 | 32) + integer(0) + integer(0)
WELCOME_BYTES = 24


def path(name: str) -> StorePath:
    return StorePath.from_digest(sha256(name.encode()).digest()[:20], name)


def narinfo(name: str, *references: str, deriver: str | None = None) -> NarInfo:
    references_ = tuple(map(path, references))
    drv = None if deriver is None else path(deriver).base_name
    return NarInfo(path(name), "nar/x", "none", b"\xab" * 32, 120, references_, deriver=drv)


TOP = narinfo("top", "leaf", "top", deriver="top.drv")
LEAF = narinfo("leaf", deriver="gone.drv")
KNOWN = ClosedSet([TOP, LEAF, narinfo("top.drv")])


class Client:
    """Says what the grammar has, and expects replies to the byte."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    @classmethod
    @asynccontextmanager
    async def connected(cls, place: Path, said: bytes = b"") -> AsyncIterator[Client]:
        async with await trio.open_unix_socket(place) as stream:
            await stream.send_all(said)
            yield cls(stream)

    @classmethod
    @asynccontextmanager
    async def greeted(cls, place: Path) -> AsyncIterator[Client]:
        async with cls.connected(place, GREETING) as client:
            await client.receive(WELCOME_BYTES)
            yield client

    async def receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = await self.stream.receive_some(count - len(data))
            assert part, f"the server hung up after {data!r}"
            data += part
        return data

    async def expect(self, operation: int, arguments: bytes, reply: bytes) -> None:
        await self.stream.send_all(integer(operation) + arguments)
        assert await self.receive(8 + len(reply)) == integer(LAST) + reply

    async def expect_refusal(self, operation: int, arguments: bytes) -> bytes:
        await self.stream.send_all(integer(operation) + arguments)
        head = await self.receive(8 + 16 + 8 + 16 + 8)
        length = int.from_bytes(head[-8:], "little")
        return (await self.receive(length + -length % 8 + 16))[:length]

    async def is_hung_up_on(self) -> None:
        with trio.fail_after(100), suppress(trio.BrokenResourceError):
            while await self.stream.receive_some(4096):
                pass

    async def drip(self, data: bytes, every_s: float) -> None:
        for byte in data:
            await self.stream.send_all(bytes([byte]))
            await trio.sleep(every_s)


def mode_of(place: Path) -> int:
    return place.stat().st_mode & 0o777


def names_in(directory: Path) -> list[str]:
    return [child.name for child in directory.iterdir()]


def name(of: str) -> bytes:
    return string(path(of).path.encode())


def names(*of: str) -> bytes:
    return integer(len(of)) + b"".join(map(name, of))


async def test_every_operation_is_answered_from_narinfos(tmp_path: Path) -> None:
    place = tmp_path / "s"
    async with serving_nix(place, KNOWN, shared=False), Client.greeted(place) as client:
        await client.expect(Operation.SET_OPTIONS, bytes(12 * 8) + integer(1) + string(b"cores") + string(b"2"), b"")
        for one, valid in (("top", 1), ("other", 0)):
            await client.expect(Operation.IS_VALID_PATH, name(one), integer(valid))
        await client.expect(Operation.QUERY_PATH_INFO, name("top"), path_info(TOP))
        await client.expect(Operation.QUERY_PATH_INFO, name("other"), integer(0))
        await client.expect(Operation.QUERY_VALID_PATHS, names("other", "leaf") + integer(1), names("leaf"))
        everything = paths([TOP.path, LEAF.path, path("top.drv")])
        await client.expect(Operation.QUERY_ALL_VALID_PATHS, b"", everything)
        await client.expect(Operation.QUERY_REFERRERS, name("leaf"), names("top"))
        await client.expect(Operation.QUERY_REFERRERS, name("other"), names())
        await client.expect(Operation.QUERY_VALID_DERIVERS, name("top"), names("top.drv"))
        await client.expect(Operation.QUERY_VALID_DERIVERS, name("leaf"), names())
        await client.expect(Operation.QUERY_PATH_FROM_HASH_PART, string(path("leaf").hash_part.encode()), name("leaf"))
        await client.expect(Operation.QUERY_PATH_FROM_HASH_PART, string(b"0" * 32), string(b""))
        wanted = integer(3) + name("leaf") + name("other") + string(path("top.drv").path.encode() + b"!out")
        await client.expect(Operation.QUERY_MISSING, wanted, missing([path("other"), path("top.drv")]))
        await client.expect(Operation.ADD_TEMP_ROOT, name("top"), integer(1))
        await client.expect(Operation.ENSURE_PATH, name("top"), integer(1))
        await client.expect(Operation.QUERY_REALISATION, string(b"sha256:00!out"), integer(0))
        await client.expect(Operation.QUERY_SUBSTITUTABLE_PATHS, names("other"), integer(0))


async def test_a_refused_operation_leaves_the_connection_usable(tmp_path: Path) -> None:
    place = tmp_path / "s"
    async with serving_nix(place, KNOWN, shared=False), Client.greeted(place) as client:
        for operation, arguments, why in (
            (Operation.OPTIMISE_STORE, b"", b"changes nothing: optimise_store is not done here"),
            (Operation.BUILD_PATHS, names("top.drv") + integer(0), b"changes nothing: build_paths"),
            (Operation.ENSURE_PATH, name("other"), b"is not valid"),
            (Operation.IS_VALID_PATH, string(b"/etc/passwd"), b"expected a path in /nix/store"),
            (Operation.QUERY_PATH_FROM_HASH_PART, string(b"zz"), b"32 nix32 digits"),
        ):
            assert why in await client.expect_refusal(operation, arguments)
            await client.expect(Operation.IS_VALID_PATH, name("top"), integer(1))


async def test_a_stream_that_is_refused_ends_the_connection(tmp_path: Path) -> None:
    place = tmp_path / "s"
    async with serving_nix(place, KNOWN, shared=False), Client.greeted(place) as client:
        assert b"add_to_store_nar is not done" in await client.expect_refusal(Operation.ADD_TO_STORE_NAR, b"")
        await client.is_hung_up_on()
        async with Client.greeted(place):
            pass


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", GREETING + b"\xff" * 16, GREETING + integer(1) + b"\xff" * 8]
)
async def test_nonsense_is_hung_up_on_and_hurts_nobody(tmp_path: Path, said: bytes) -> None:
    place = tmp_path / "s"
    async with (
        serving_nix(place, KNOWN, shared=False),
        Client.greeted(place) as other,
        Client.connected(place, said) as client,
    ):
        await client.is_hung_up_on()
        await other.expect(Operation.IS_VALID_PATH, name("top"), integer(1))


class Broken(ClosedSet):
    async def describe(self, hash_part: str) -> NarInfo | None:
        raise ZeroDivisionError(hash_part)


async def test_a_bug_costs_one_client_its_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "s"
    async with serving_nix(place, Broken([]), shared=False):
        async with Client.greeted(place) as client:
            await client.stream.send_all(integer(Operation.IS_VALID_PATH) + name("top"))
            await client.is_hung_up_on()
        async with Client.greeted(place) as client:
            await client.expect(Operation.QUERY_ALL_VALID_PATHS, b"", names())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


@pytest.mark.parametrize("said", [b"", GREETING[:20], GREETING + integer(1) + integer(5)])
async def test_half_a_message_is_not_waited_for(
    tmp_path: Path, mock_clock: trio.testing.MockClock, said: bytes
) -> None:
    place = tmp_path / "s"
    async with serving_nix(place, KNOWN, shared=False), Client.connected(place, said) as client:
        mock_clock.autojump_threshold = 0.05  # threads of ours have looked by now
        await client.is_hung_up_on()
    assert nix_socket.MESSAGE_DEADLINE_S <= mock_clock.current_time() < 2 * nix_socket.MESSAGE_DEADLINE_S


async def test_a_client_that_drips_does_not_get_a_new_deadline_with_each_byte(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    place = tmp_path / "s"
    async with serving_nix(place, KNOWN, shared=False), Client.connected(place) as client:
        mock_clock.autojump_threshold = 0.05  # threads of ours have looked by now
        with pytest.raises(trio.BrokenResourceError):
            await client.drip(GREETING, every_s=5)
    assert mock_clock.current_time() < 2 * nix_socket.MESSAGE_DEADLINE_S


async def test_a_client_may_rest_between_requests(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    place = tmp_path / "s"
    async with serving_nix(place, KNOWN, shared=False), Client.greeted(place) as client:
        mock_clock.autojump_threshold = 0.05  # threads of ours have looked by now
        for _ in range(3):
            await client.expect(Operation.IS_VALID_PATH, name("top"), integer(1))
            await trio.sleep(3600)
    assert mock_clock.current_time() > 10_000


@pytest.mark.parametrize(("shared", "mode"), [(True, 0o666), (False, 0o600)])
async def test_who_sees_the_mount_may_ask(tmp_path: Path, shared: bool, mode: int) -> None:
    place = tmp_path / "s"
    async with serving_nix(place, KNOWN, shared=shared):
        assert mode_of(place) == mode
    assert names_in(tmp_path) == []


async def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(place))
    async with serving_nix(place, KNOWN, shared=False), Client.greeted(place):
        pass


async def test_nothing_that_is_in_use_is_replaced(tmp_path: Path) -> None:
    place, file = tmp_path / "s", tmp_path / "f"
    file.touch()
    async with serving_nix(place, KNOWN, shared=False):
        with pytest.raises(UsageError, match="another process answers"):
            await serving_nix(place, KNOWN, shared=False).__aenter__()
        async with Client.greeted(place):
            pass
    with pytest.raises(UsageError, match="not a socket"):
        await serving_nix(file, KNOWN, shared=False).__aenter__()
    assert names_in(tmp_path) == [file.name]


@pytest.mark.parametrize("place", ["no/such/directory/s", "x" * 200])
async def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="no socket can be made there"):
        await serving_nix(tmp_path / place, KNOWN, shared=False).__aenter__()


@pytest.mark.mount
@needs_fuse
async def test_a_place_in_a_view_of_ours_is_refused_and_stops_nothing(public: Path) -> None:
    async with mounted(View.of([(path("one"), MemoryAccessor({b"file": File(b"")}))]), public / "m"):
        with cut_off_in_time(public / "m"), pytest.raises(UsageError, match="Read-only file system"):
            await serving_nix(public / "m" / path("one").base_name / "s", KNOWN, shared=False).__aenter__()


async def test_sockets_whose_names_differ_behind_the_last_dot_are_made_at_once(tmp_path: Path) -> None:
    async def serve(number: int, task_status: trio.TaskStatus[None]) -> None:
        async with serving_nix(tmp_path / f"build.{number}", KNOWN, shared=False):
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as starting:
            for number in range(8):
                starting.start_soon(nursery.start, serve, number)
        assert len(os.listdir(tmp_path)) == 8  # noqa: PTH208
        nursery.cancel_scope.cancel()


async def test_who_asks_before_he_was_greeted_is_greeted_first(tmp_path: Path) -> None:
    place = tmp_path / "s"
    question = integer(Operation.IS_VALID_PATH) + name("other")
    async with serving_nix(place, KNOWN, shared=False), Client.connected(place, GREETING + question) as client:
        told = await client.receive(WELCOME_BYTES + 16)
    assert told[-16:] == integer(LAST) + integer(0)
