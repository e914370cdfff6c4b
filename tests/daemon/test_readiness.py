from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from narfs.daemon.readiness import Announcer, wait_ready
from narfs.errors import NarfsError, NotFound, TooSlow, Unavailable, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pipe() -> tuple[int, Announcer]:
    reading, writing = os.pipe()
    return reading, Announcer(writing, {})


def test_ready_is_heard_once(pipe: tuple[int, Announcer]) -> None:
    reading, announcer = pipe
    announcer.ready()
    wait_ready(reading, deadline_s=60, log="")
    assert not announcer.failed(Unavailable("later")), "nobody listens any more"


@pytest.mark.parametrize(
    ("said", "heard"), [(UsageError("wrong key"), UsageError), (NotFound("no such path"), Unavailable)]
)
def test_a_failure_is_heard_with_its_line(
    pipe: tuple[int, Announcer], said: NarfsError, heard: type[NarfsError]
) -> None:
    reading, announcer = pipe
    assert announcer.failed(said)
    with pytest.raises(heard, match=str(said)):
        wait_ready(reading, deadline_s=60, log="")


def test_a_child_that_dies_in_silence_is_noticed(pipe: tuple[int, Announcer]) -> None:
    reading, announcer = pipe
    assert announcer._fd is not None
    os.close(announcer._fd)
    with pytest.raises(Unavailable, match=r"ended before .*; see the log"):
        wait_ready(reading, deadline_s=60, log="see the log")


def test_a_child_that_never_speaks_is_not_waited_for_without_end(pipe: tuple[int, Announcer]) -> None:
    reading, announcer = pipe
    with pytest.raises(TooSlow, match="not usable"):
        wait_ready(reading, deadline_s=0.01, log="")
    assert not announcer.failed(Unavailable("too late")), "the parent gave up"


def test_systemd_hears_it_also_in_the_abstract_namespace(tmp_path: Path) -> None:
    for name in (str(tmp_path / "notify"), f"\0narfs-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name)
            manager.settimeout(60)
            Announcer(None, {"NOTIFY_SOCKET": name.replace("\0", "@")}).ready()
            assert manager.recv(100) == b"READY=1"
