"""What is said to a service manager about descriptors."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs.daemon import fd_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, socket_: socket.socket, environ: Mapping[str, str]) -> None:
        self._socket = socket_
        self.environ = environ

    def heard(self) -> tuple[str, list[int]]:
        said, fds, _, _ = socket.recv_fds(self._socket, 4096, 4)
        return said.decode(), fds


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield Manager(listening, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "INVOCATION_ID": "1"})


def test_of_a_name_the_newest_descriptor_alone_is_kept(manager: Manager, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    assert fd_store.keep(fd, "slabs", manager.environ)
    os.close(fd)
    assert manager.heard() == ("FDSTOREREMOVE=1\nFDNAME=slabs", [])
    said, fds = manager.heard()
    assert said == "FDSTORE=1\nFDNAME=slabs"
    assert [Path(f"/proc/self/fd/{each}").readlink() for each in fds] == [tmp_path]
    os.close(fds[0])


def test_a_descriptor_that_nobody_goes_on_with_is_not_kept_any_longer(manager: Manager) -> None:
    fd_store.forget("slabs", manager.environ)
    assert manager.heard() == ("FDSTOREREMOVE=1\nFDNAME=slabs", [])


def test_without_a_manager_nothing_is_kept() -> None:
    assert not fd_store.keep(0, "slabs", {})
    fd_store.forget("slabs", {})
