"""What the cache needs of the file system."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from narfs.cache.disk import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUFFERS = [bytes([number % 251]) * (number % 7) for number in range(2500)]


@pytest.fixture
def small_files() -> Iterator[int]:
    """Let no file grow beyond so many bytes: a write that reaches that is cut short, the next one fails."""
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, action)


def test_any_number_of_buffers_is_written_one_behind_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    Descriptor(path, os.O_RDWR | os.O_CREAT).write_all(3, BUFFERS)
    assert path.read_bytes() == bytes(3) + b"".join(BUFFERS)


def test_a_write_that_is_cut_short_goes_on_where_it_ended(tmp_path: Path, small_files: int) -> None:
    path = tmp_path / "file"
    with pytest.raises(OSError, match="File too large"):
        Descriptor(path, os.O_RDWR | os.O_CREAT).write_all(0, [b"a" * 3000, b"b" * 3000, b"c"])
    assert path.read_bytes() == (b"a" * 3000 + b"b" * 3000)[:small_files]
