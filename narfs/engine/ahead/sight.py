"""Sight: what may be seen of a View by what is fetched ahead in it. Its members, and never anything else.

Paths are followed as the kernel does, through symlinks and from one store path into another, in trees that are known
without a pass. What leads elsewhere is not found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from narfs.errors import FormatError, NarfsError, NotFound
from narfs.formats.listing import Kind
from narfs.formats.store_path import STORE_DIR, StorePath
from narfs.offsets import FileOffset, NarSpan, in_nar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from narfs.engine.accessor import NarAccessor
    from narfs.formats.listing import NarListing, Node

_STORE: Final = STORE_DIR.encode() + b"/"
_STEPS_MAX: Final = 256
"""Names and symlinks on one way; symlinks may lead in circles."""
_STEPS_AT_ONCE: Final = 32
"""Before others get their turn; hardly a path is so long."""

_SEARCHES_MAX: Final = 1024
"""Names that are searched for in one View."""
_SEARCHED_BYTES: Final = 1 << 20
"""Names of one NAR that are searched for one of a library: 30 000 entries, 1 ms."""
_SEARCHED_AT_LEAST: Final = _SEARCHED_BYTES // 16
"""What a search of one NAR counts as."""


class Place(NamedTuple):
    """A node of a member; ``name`` is the member's in the store."""

    name: bytes
    accessor: NarAccessor
    listing: NarListing
    node: int

    @property
    def described(self) -> Node:
        """The node."""
        return self.listing.node(self.node)

    @property
    def parent(self) -> Place:
        """The directory it is in."""
        return self._replace(node=self.described.parent)

    def child(self, name: bytes) -> Place | None:
        """Find what is in this directory, without following it."""
        child = self.listing.child(self.node, name)
        return None if child is None else self._replace(node=child)

    @property
    def span(self) -> NarSpan:
        """The contents of a file."""
        node = self.described
        return NarSpan(node.nar_offset, in_nar(node.nar_offset, FileOffset(node.size)))


class Sight:
    """Of one View. An open one can ``find`` what it has not shown yet; a closed one has all its members."""

    def __init__(
        self,
        members: Iterable[tuple[StorePath, NarAccessor]],
        find: Callable[[StorePath], Awaitable[NarAccessor]] | None = None,
    ) -> None:
        self._members = {path.base_name.encode(): accessor for path, accessor in members}
        self._find = find
        self._named: dict[bytes, Place | None] = {}

    async def file(self, path: bytes, start: Place | None = None) -> Place | None:
        """Find the regular file that a path leads to: an absolute one, or one from the directory ``start``."""
        place = await self.walk(path, start)
        return place if place is not None and place.described.kind is Kind.REGULAR else None

    async def walk(self, path: bytes, start: Place | None = None) -> Place | None:
        """Find what a path leads to, a symlink never; None also for the store directory itself."""
        try:
            return await self._walk(path, start)
        except (NotFound, FormatError):  # it leads elsewhere; or a tree lies, which whoever reads it will be told
            return None

    async def member(self, name: bytes) -> Place | None:
        """Give the root of a member whose tree can be known without a pass."""
        accessor = self._members.get(name)
        try:
            if accessor is None and self._find is not None:
                accessor = self._members[name] = await self._find(StorePath.parse(name))
            if accessor is None or not await accessor.unseal():
                return None
        except NarfsError:
            return None
        return None if accessor.listing is None else Place(name, accessor, accessor.listing, 0)

    async def named(self, name: bytes) -> Place | None:
        """Find a file of this name anywhere: for programs that are told at their start where to look."""
        if name not in self._named and len(self._named) < _SEARCHES_MAX:
            self._named[name] = await self._search(name)
        return self._named.get(name)

    async def _walk(self, path: bytes, start: Place | None) -> Place | None:
        here, todo = _begin(path, start)
        for step in range(1, _STEPS_MAX + 1):
            if not todo:
                return here
            if step % _STEPS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if here is None:
                    raise NotFound("above the store")
                here = here.parent if here.node else None
                continue
            above, here = here, await self.member(name) if here is None else here.child(name)
            if here is None:
                return None
            if here.listing.kind(here.node) is Kind.SYMLINK:
                here, more = _begin(here.listing.target(here.node), above)
                todo += more
        return None

    async def _search(self, name: bytes) -> Place | None:
        searched = 0
        for member, accessor in list(self._members.items()):
            listing = accessor.listing
            if listing is None or listing.names_bytes > _SEARCHED_BYTES:
                continue
            searched += max(listing.names_bytes, _SEARCHED_AT_LEAST)
            if searched > _SEARCHED_BYTES:
                await trio.lowlevel.checkpoint()
                searched = 0
            for node in listing.named(name):
                root = Place(member, accessor, listing, node)
                if (place := await self.file(name, root.parent)) is not None:
                    return place
        return None


def _begin(path: bytes, here: Place | None) -> tuple[Place | None, list[bytes]]:
    """Say where a path begins and which names follow, the next one last; NotFound if it leads out of the store."""
    if path.startswith(b"/"):
        if not path.startswith(_STORE):
            raise NotFound("out of the store")
        path, here = path.removeprefix(_STORE), None
    return here, path.split(b"/")[::-1]
