"""Entries of store paths, for commands that look at them: out of a NAR, or through the mount of a live daemon."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from narfs.errors import Corrupt, FormatError, NotFound, Unavailable
from narfs.formats.listing import Kind
from narfs.offsets import FileOffset, in_nar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from narfs.daemon.session import Session
    from narfs.engine.accessor import NarAccessor
    from narfs.formats.store_path import StorePath

PIECE_BYTES = 4 * 1024 * 1024
"""What ``cat`` asks for at once: many chunks, so that ranges are merged and a pass is not waited for in small steps."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symlink; ``parts`` are the names that lead to it inside its store path."""

    path: StorePath
    parts: tuple[bytes, ...]
    kind: Kind
    executable: bool
    size: int
    target: bytes | None = None

    @property
    def mode(self) -> str:
        """Kind and permissions, as ``ls -l`` writes them."""
        if self.kind is Kind.REGULAR:
            return "-r-xr-xr-x" if self.executable else "-r--r--r--"
        return "dr-xr-xr-x" if self.kind is Kind.DIRECTORY else "lrwxrwxrwx"

    def facts(self) -> dict[str, object]:
        """Describe it for JSON, in the words of ``.ls`` files."""
        told: dict[str, object] = {"path": os.fsdecode(b"/".join((self.path.path.encode(), *self.parts)))}
        told["type"] = self.kind.name.lower()
        if self.kind is Kind.REGULAR:
            told |= {"size": self.size, "executable": self.executable}
        if self.target is not None:
            told["target"] = os.fsdecode(self.target)
        return told


class Trees(Protocol):
    """Where entries come from. All raise NotFound for what is not there."""

    async def entry(self, path: StorePath, parts: tuple[bytes, ...]) -> Entry:
        """Describe one entry; no symlink is followed."""

    async def children(self, directory: Entry) -> list[Entry]:
        """Describe what is in a directory, by name."""

    def contents(self, file: Entry) -> AsyncGenerator[bytes]:
        """Give the contents of a file in pieces."""


class NarTrees:
    """Entries out of NARs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def entry(self, path: StorePath, parts: tuple[bytes, ...]) -> Entry:
        """Describe one entry."""
        accessor, node = await self._find(path, parts)
        return await self._describe(accessor, node, path, parts)

    async def children(self, directory: Entry) -> list[Entry]:
        """Describe what is in a directory."""
        accessor, node = await self._find(directory.path, directory.parts)
        return [
            await self._describe(accessor, child, directory.path, (*directory.parts, await accessor.name(child)))
            for child in await accessor.children(node)
        ]

    async def contents(self, file: Entry) -> AsyncGenerator[bytes]:
        """Give the contents of a file."""
        accessor, node = await self._find(file.path, file.parts)
        start = (await accessor.node(node)).nar_offset
        for offset in range(0, file.size, PIECE_BYTES):
            with _named(file.path):
                piece = await accessor.read(in_nar(start, FileOffset(offset)), min(PIECE_BYTES, file.size - offset))
            yield piece

    async def _find(self, path: StorePath, parts: tuple[bytes, ...]) -> tuple[NarAccessor, int]:
        accessor = await self._session.store.find(path)
        node = 0
        for name in parts:
            child = None
            with _named(path):
                if (await accessor.node(node)).kind is Kind.DIRECTORY:
                    child = await accessor.child(node, name)
            if child is None:
                raise NotFound(f"{shown(path, parts)}: no such file or directory")
            node = child
        return accessor, node

    async def _describe(self, accessor: NarAccessor, node: int, path: StorePath, parts: tuple[bytes, ...]) -> Entry:
        with _named(path):
            found = await accessor.node(node)
        target = await accessor.target(node) if found.kind is Kind.SYMLINK else None
        size = 0 if found.kind is Kind.DIRECTORY else found.size
        return Entry(path, parts, found.kind, found.executable, size, target)


@contextmanager
def _named(path: StorePath) -> Iterator[None]:
    """Tell what is wrong with the bytes of a NAR with the name of its path."""
    try:
        yield
    except (Corrupt, FormatError) as error:
        raise Corrupt(f"{path.base_name}: {error}") from error


class MountedTrees:
    """Entries seen through the mount of a live daemon; blocking, for a command does nothing else meanwhile."""

    def __init__(self, mountpoint: Path) -> None:
        self._mountpoint = os.fsencode(mountpoint)

    async def entry(self, path: StorePath, parts: tuple[bytes, ...]) -> Entry:
        """Describe one entry."""
        place = self._place(path, parts)
        try:
            found = os.lstat(place)
            target = os.readlink(place) if stat.S_ISLNK(found.st_mode) else None  # noqa: PTH115 - names are bytes
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{shown(path, parts)}: no such file or directory") from error
        except OSError as error:
            raise _trouble(path, parts, error) from error
        kind = _KINDS[stat.S_IFMT(found.st_mode)]
        size = 0 if kind is Kind.DIRECTORY else found.st_size
        executable = kind is Kind.REGULAR and bool(found.st_mode & stat.S_IXUSR)
        return Entry(path, parts, kind, executable, size, target)

    async def children(self, directory: Entry) -> list[Entry]:
        """Describe what is in a directory."""
        path, parts = directory.path, directory.parts
        try:
            names = sorted(os.listdir(self._place(path, parts)))  # noqa: PTH208 - names are bytes
        except OSError as error:
            raise _trouble(path, parts, error) from error
        return [await self.entry(path, (*parts, name)) for name in names]

    async def contents(self, file: Entry) -> AsyncGenerator[bytes]:
        """Give the contents of a file."""
        try:
            with open(self._place(file.path, file.parts), "rb", buffering=0) as opened:  # noqa: ASYNC230, PTH123 - blocking and bytes on purpose
                while piece := opened.read(PIECE_BYTES):
                    yield piece
        except OSError as error:
            raise _trouble(file.path, file.parts, error) from error

    def _place(self, path: StorePath, parts: tuple[bytes, ...]) -> bytes:
        return b"/".join((self._mountpoint, os.fsencode(path.base_name), *parts))


_KINDS = {stat.S_IFREG: Kind.REGULAR, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


def _trouble(path: StorePath, parts: tuple[bytes, ...], error: OSError) -> Unavailable:
    return Unavailable(f"{shown(path, parts)}: {error.strerror}; the log of the daemon that has it mounted says why")


def shown(path: StorePath, parts: tuple[bytes, ...]) -> str:
    """Write where an entry is, fit for a message."""
    return ascii(b"/".join((path.path.encode(), *parts)).decode("utf-8", "surrogateescape"))[1:-1]
