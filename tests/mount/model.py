"""The door of the mount wing: a model tree as an accessor in memory that stalls or fails on order."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import trio

from narfs.errors import NarfsError, NotFound, again
from narfs.formats.nar import NarIndexer, Root
from narfs.formats.store_path import StorePath
from tests.support.trees import dump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.formats.listing import NarListing, Node
    from narfs.offsets import NarOffset
    from tests.support.trees import Tree


def path(name: str) -> StorePath:
    return StorePath.from_digest(hashlib.sha256(name.encode()).digest()[:20], name)


class MemoryAccessor:
    """Knows everything at once (``verified``), or only once ``verify`` was called and until then as a stalled lake."""

    def __init__(self, tree: Tree, *, verified: bool = True, peeked: bool = True, inline: bool = True) -> None:
        self.nar = dump(tree)
        self.key = hashlib.sha256(self.nar).digest()
        self.nar_size = len(self.nar)
        indexer = NarIndexer(self.nar_size)
        indexer.feed(self.nar)
        self._listing = indexer.finish()
        self._root = indexer.root
        self.listing: NarListing | None = None
        self.root: Root | None = self._root if peeked else None
        self.inline = inline
        self.on_disk = False
        self.broken_passes = 0
        self.trouble: Exception | None = None
        self.asked: Counter[str] = Counter()
        self.open = trio.Event()
        if verified:
            self.verify()

    def verify(self) -> None:
        self.listing, self.root = self._listing, self._root
        self.open.set()

    def stall(self) -> None:
        self.inline = False
        self.open = trio.Event()

    def fail(self, trouble: Exception) -> None:
        self.trouble = trouble
        self.inline = False
        self.open.set()

    async def _pass(self, what: str) -> None:
        self.asked[what] += 1
        await self.open.wait()
        if isinstance(self.trouble, NarfsError):
            raise again(self.trouble)
        if self.trouble is not None:
            raise self.trouble

    async def peek(self) -> Root:
        await self._pass("peek")
        assert self._root is not None
        self.root = self._root
        return self._root

    async def node(self, node: int) -> Node:
        await self._pass("node")
        return self._listing.node(node)

    async def name(self, node: int) -> bytes:
        await self._pass("name")
        return self._listing.name(node)

    async def settle(self) -> None:
        await self._pass("settle")

    async def target(self, symlink: int) -> bytes:
        await self._pass("target")
        return self._listing.target(symlink)

    async def child(self, directory: int, name: bytes) -> int | None:
        await self._pass("child")
        return self._listing.child(directory, name)

    async def children(self, directory: int) -> Sequence[int]:
        await self._pass("children")
        return self._listing.children(directory)

    def is_here(self, start: NarOffset, length: int) -> bool:
        return self.on_disk and start + length <= self.nar_size

    def read_nowait(self, start: NarOffset, length: int) -> bytes | None:
        return self.nar[start : start + length] if self.inline else None

    async def read(self, start: NarOffset, length: int) -> bytes:
        await self._pass("read")
        return self.nar[start : start + length]


class MemorySource:
    """What an open View finds: accessors by name, errors for what is in trouble."""

    def __init__(self, absent_s: float = 0.0) -> None:
        self.absent_s = absent_s
        self.paths: dict[StorePath, MemoryAccessor | NarfsError] = {}
        self.asked: Counter[StorePath] = Counter()

    def add(self, name: str, found: MemoryAccessor | NarfsError) -> StorePath:
        self.paths[path(name)] = found
        return path(name)

    async def find(self, path: StorePath) -> MemoryAccessor:
        await trio.lowlevel.checkpoint()
        self.asked[path] += 1
        found = self.paths.get(path)
        if found is None:
            raise NotFound(f"{path.path}: no lake has it")
        if isinstance(found, NarfsError):
            raise again(found)
        return found

    def absent_for(self, path: StorePath) -> float:
        assert path not in self.paths
        return self.absent_s
