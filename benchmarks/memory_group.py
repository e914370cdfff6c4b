"""A memory cgroup of our own: what processes take together, page cache and the kernel's own memory included.

A page of a file belongs to the group whose process brought it in; what others had read before is not counted again.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_PEAKS: Final = ("memory.peak", "memory.max_usage_in_bytes")
"""Version 2 (Linux 5.19 and newer), version 1."""
_ANONYMOUS: Final = ("anon", "total_rss")
_CACHED: Final = ("file", "total_cache")


class Usage(NamedTuple):
    """Bytes as of now: memory of processes, and pages of files."""

    anonymous: int
    cached: int


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """One group, from its making on."""

    directory: Path

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be in the group for a moment: children that are started then stay in it."""
        before = _own_directory()
        _move(self.directory)
        try:
            yield
        finally:
            _move(before)

    def peak_bytes(self) -> int:
        """Give the most that it had at one time, as the kernel counted."""
        return int(_first_of(self.directory, _PEAKS).read_text(encoding="ascii"))

    def usage(self) -> Usage:
        """Tell what it has now."""
        lines = (self.directory / "memory.stat").read_text(encoding="ascii").splitlines()
        told = {name: int(value) for name, value in map(str.split, lines)}
        return Usage(*(next(told[name] for name in names if name in told) for names in (_ANONYMOUS, _CACHED)))


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """Make a group beside or below our own; gone at the end, when all its processes have ended."""
    directory = _own_directory() / f"narfs-bench-{os.getpid()}"
    directory.mkdir()
    try:
        yield MemoryGroup(directory)
    finally:
        with suppress(OSError):  # somebody is in it still: it is in nobody's way
            directory.rmdir()


def _move(directory: Path) -> None:
    (directory / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def _own_directory() -> Path:
    """Find our own group in the hierarchy that accounts memory."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    groups = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    if old := re.search(r"^\S+ (\S+) cgroup \S*\bmemory\b", mounts, re.MULTILINE):
        found = re.search(r"^\d+:(?:\S+,)?memory(?:,\S+)?:(\S+)$", groups, re.MULTILINE)
    else:
        old = re.search(r"^\S+ (\S+) cgroup2 ", mounts, re.MULTILINE)
        found = re.search(r"^0::(\S+)$", groups, re.MULTILINE)
    if old is None or found is None:
        raise RuntimeError("no cgroup here accounts memory")
    return Path(old[1] + found[1])


def _first_of(directory: Path, names: tuple[str, ...]) -> Path:
    return next(file for name in names if (file := directory / name).exists())
