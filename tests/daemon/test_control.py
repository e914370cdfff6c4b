from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from narfs.daemon import control
from narfs.daemon.control_server import listening
from narfs.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def _fail() -> object:
    raise NotFound("no such thing")


OPERATIONS = {"status": lambda: {"served": 3}, "fail": _fail}


async def _ask(path: Path, operation: str) -> Any:
    return await trio.to_thread.run_sync(control.ask, path, operation)


async def _say(path: Path, line: bytes) -> dict[str, Any]:
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(line)
        heard = await stream.receive_some(65536)
        answer: dict[str, Any] = json.loads(heard)
        return answer


async def test_an_operation_is_answered(tmp_path: Path) -> None:
    async with listening(tmp_path / "run", "/mnt", OPERATIONS) as path:
        assert await _ask(path, "status") == {"served": 3}


async def test_a_failed_operation_is_answered_with_its_line(tmp_path: Path) -> None:
    async with listening(tmp_path / "run", "/mnt", OPERATIONS) as path:
        with pytest.raises(Unavailable, match="no such thing"):
            await _ask(path, "fail")
        with pytest.raises(Unavailable, match="known are fail, status"):
            await _ask(path, "explode")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"nonsense\n", "not a line of JSON"),
        (b"[]\n", "version 1"),
        (b'{"version": 7, "operation": "status"}\n', "version 1"),
        (b"x" * (control.REQUEST_MAX_BYTES + 1), "at most"),
    ],
)
async def test_nonsense_is_answered_and_hurts_nobody(tmp_path: Path, line: bytes, error: str) -> None:
    async with listening(tmp_path / "run", "/mnt", OPERATIONS) as path:
        assert error in (await _say(path, line))["error"]
        assert await _ask(path, "status") == {"served": 3}


async def test_a_silent_client_is_hung_up_on(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with listening(tmp_path / "run", "/mnt", OPERATIONS) as path, await trio.open_unix_socket(path) as stream:
        assert await stream.receive_some(1) == b""
    assert autojump_clock.current_time() >= control.DEADLINE_S


async def test_the_socket_is_private_and_goes_with_its_server(tmp_path: Path) -> None:
    async with listening(tmp_path / "run", "/mnt", OPERATIONS) as path:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "run").iterdir()) == []


async def test_sockets_are_found_by_mountpoint(tmp_path: Path) -> None:
    async with listening(tmp_path, "/mnt", OPERATIONS) as one, listening(tmp_path, "/other", OPERATIONS) as other:
        assert control.sockets(tmp_path, "/mnt") == [one]
        assert control.sockets(tmp_path) == sorted([one, other])


def test_the_socket_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    path = control.socket_path(tmp_path, "/mnt", 1)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    with pytest.raises(Unavailable, match="gone"):
        control.ask(path, "status")
    assert not path.exists()


def test_a_socket_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="XDG_RUNTIME_DIR"):
        control.socket_path(tmp_path / ("x" * 120), "/mnt", 1)
