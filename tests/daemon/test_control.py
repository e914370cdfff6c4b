from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from narfs.daemon import control
from narfs.daemon.control_server import Operation, listening
from narfs.errors import NotFound, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path


async def _status(_arguments: Mapping[str, Any]) -> object:
    return {"served": 3}


async def _fail(_arguments: Mapping[str, Any]) -> object:
    raise NotFound("no such thing")


async def _echo(arguments: Mapping[str, Any]) -> object:
    return arguments


OPERATIONS = {"status": Operation(_status, for_everybody=True), "fail": Operation(_fail), "echo": Operation(_echo)}


@pytest.fixture
async def path(public: Path) -> AsyncIterator[Path]:
    path = public / "x.sock"
    async with listening(path, OPERATIONS):
        yield path


async def _ask(path: Path, operation: str) -> Any:
    return await trio.to_thread.run_sync(control.ask, path, operation)


async def _say(path: Path, line: bytes) -> dict[str, Any]:
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(line)
        heard = await stream.receive_some(65536)
        answer: dict[str, Any] = json.loads(heard)
        return answer


async def test_an_operation_is_answered(path: Path) -> None:
    assert await _ask(path, "status") == {"served": 3}


async def test_a_failed_operation_is_answered_with_its_line(path: Path) -> None:
    with pytest.raises(NotFound, match="no such thing"):
        await _ask(path, "fail")
    with pytest.raises(UsageError, match="known are echo, fail, status"):
        await _ask(path, "explode")


async def test_a_connection_carries_many_requests(path: Path) -> None:
    async with await trio.open_unix_socket(path) as stream:
        for number in (1, 2):
            request = {"version": 1, "operation": "echo", "arguments": {"number": number}}
            await stream.send_all(json.dumps(request).encode() + b"\n")
            assert json.loads(await stream.receive_some(65536)) == {"version": 1, "answer": {"number": number}}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
async def test_another_user_who_may_connect_may_only_look(path: Path) -> None:
    os.chmod(path, 0o666)  # noqa: PTH101, S103
    script = """if 1:
        import os, socket, sys
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(sys.argv[1])
            for operation in ("status", "echo"):
                s.sendall(b'{"version": 1, "operation": "%s"}\\n' % operation.encode())
                print(s.recv(4096).decode(), end="")
    """
    done = await trio.run_process([sys.executable, "-c", script, str(path)], capture_stdout=True)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["answer"] == {"served": 3}
    assert "only for root" in second["error"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"nonsense\n", "not a line of JSON"),
        (b"[]\n", "version 1"),
        (b'{"version": 7, "operation": "status"}\n', "version 1"),
        (b"x" * (control.REQUEST_MAX_BYTES + 1), "at most"),
    ],
)
async def test_nonsense_is_answered_and_hurts_nobody(path: Path, line: bytes, error: str) -> None:
    assert error in (await _say(path, line))["error"]
    assert await _ask(path, "status") == {"served": 3}


async def test_a_silent_client_is_hung_up_on(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async with listening(tmp_path / "x", OPERATIONS), await trio.open_unix_socket(tmp_path / "x") as stream:
        mock_clock.autojump_threshold = 0.05  # threads of ours have looked by now
        assert await stream.receive_some(1) == b""
    assert mock_clock.current_time() >= control.DEADLINE_S


async def test_the_socket_is_private_and_goes_with_its_server(tmp_path: Path) -> None:
    async with listening(tmp_path / "x.sock", OPERATIONS):
        assert (tmp_path / "x.sock").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_sockets_are_found_by_mountpoint(tmp_path: Path) -> None:
    one, other = control.socket_path(tmp_path, "/mnt", 1), control.socket_path(tmp_path, "/other", 1)
    async with listening(one, OPERATIONS), listening(other, OPERATIONS):
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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
async def test_strangers_do_not_keep_the_owner_waiting(path: Path) -> None:
    os.chmod(path, 0o666)  # noqa: PTH101, S103
    script = """if 1:
        import os, socket, sys
        os.setuid(65534)
        silent = [socket.socket(socket.AF_UNIX) for _ in range(64)]
        for each in silent:
            each.connect(sys.argv[1])
        print("there", flush=True)
        sys.stdin.read()
    """
    crowd = await trio.lowlevel.open_process(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    async with crowd.stdin, crowd.stdout:
        assert await crowd.stdout.receive_some() == b"there\n"
        with trio.fail_after(control.DEADLINE_S / 2):
            assert await _ask(path, "status") == {"served": 3}
    await crowd.wait()
