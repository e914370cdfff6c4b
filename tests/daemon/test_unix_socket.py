"""Sockets take nothing of anybody's away, and nobody waits for a directory that hangs."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.daemon import unix_socket
from narfs.daemon.unix_socket import listening_socket
from narfs.errors import UsageError
from narfs.mount import mountpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 0.1


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What ends the hanging."""
    monkeypatch.setattr(mountpoint, "_PATIENCE_S", PATIENCE_S)
    ended = threading.Event()
    yield ended
    ended.set()


async def test_nothing_that_lies_beside_a_socket_is_touched(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"nix.{number}").write_text("a stranger's")
    for _ in range(3):
        async with listening_socket(tmp_path / "nix.sock", 0o600) as listener:
            assert listener.socket.fileno() >= 0
            (await trio.open_unix_socket(tmp_path / "nix.sock")).socket.close()
    assert sorted(os.listdir(tmp_path)) == sorted(f"nix.{number}" for number in range(50))  # noqa: PTH208


async def test_a_path_may_be_as_long_as_a_socket_s_may(tmp_path: Path) -> None:
    path = tmp_path / ("x" * (107 - len(os.fspath(tmp_path)) - 1))
    async with listening_socket(path, 0o600):
        (await trio.open_unix_socket(path)).socket.close()


async def test_a_directory_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: threading.Event
) -> None:
    shown = threading.Event()

    def show(*_: object) -> int:
        hangs.wait(2)
        shown.set()
        return 0

    monkeypatch.setattr(unix_socket, "_show", show)
    with pytest.raises(UsageError, match="does not answer"):
        async with listening_socket(tmp_path / "x", 0o600):
            pass
    assert not shown.is_set()


async def test_who_goes_does_not_wait_for_a_directory_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    gone = threading.Event()

    def hide(*_: object) -> None:
        hangs.wait(2)
        gone.set()

    monkeypatch.setattr(unix_socket, "_hide", hide)
    async with listening_socket(tmp_path / "x", 0o600):
        pass
    assert not gone.is_set()
    assert "left behind" in caplog.text


async def test_who_was_given_up_shows_no_socket_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: threading.Event
) -> None:
    """Another may be in its place by then."""
    chown = os.chown

    def slow(path: Path, owner: int, group: int) -> None:
        hangs.wait(2)
        chown(path, owner, group)

    monkeypatch.setattr(os, "chown", slow)
    with pytest.raises(UsageError):
        async with listening_socket(tmp_path / "x", 0o600):
            pass
    hangs.set()
    with trio.fail_after(60):
        while os.listdir(tmp_path):  # noqa: ASYNC110, PTH208 - it is a thread's, which tells nobody
            await trio.sleep(0.01)
