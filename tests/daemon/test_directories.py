from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from narfs.daemon.directories import private_directory, socket_directory

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_private_directory_is_closed_even_if_it_was_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert mode(private_directory(tmp_path)) == 0o700


def test_a_directory_of_sockets_stays_open_for_looking_but_not_for_writing(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert mode(socket_directory(tmp_path)) == 0o755
    assert mode(socket_directory(tmp_path / "new")) == (0o700 if os.geteuid() else 0o755)


def test_a_link_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for made in (private_directory, socket_directory):
        with pytest.raises(PermissionError):
            made(tmp_path / "link")
