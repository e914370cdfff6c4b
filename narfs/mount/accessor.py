"""What the mount asks of the engine, and nothing more: one NAR to look into, and a place to find others.

Node ids count the nodes of one NAR in preorder; 0 is its root. Every ``async`` method waits for bytes to arrive and be
checked, has no deadline of its own and may be cancelled freely: the work behind it belongs to somebody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.formats.listing import NarListing, Node
    from narfs.formats.nar import Root
    from narfs.formats.store_path import StorePath
    from narfs.offsets import NarOffset


class Accessor(Protocol):
    """One NAR; the same object for every store path that has it."""

    @property
    def key(self) -> bytes:
        """Who it is: two with the same key and size are the same NAR, and nobody may see one and not the other."""

    @property
    def nar_size(self) -> int:
        """Bytes of the decompressed NAR, as signed."""

    @property
    def broken_passes(self) -> int:
        """Passes that were shown and did not end well: what was learned of nodes during one is void."""

    @property
    def root(self) -> Root | None:
        """Kind and size of the root node as far as a peek told; unverified."""

    @property
    def listing(self) -> NarListing | None:
        """The tree, complete and allowed to be shown; None: ask the methods below."""

    async def peek(self) -> Root:
        """Learn kind and size of the root node from the first kilobytes; unverified."""

    async def node(self, node: int, /) -> Node:
        """Give one node."""

    async def name(self, node: int, /) -> bytes:
        """Give the name of one node; the root has none."""

    async def target(self, symlink: int, /) -> bytes:
        """Give the target of a symlink."""

    async def child(self, directory: int, name: bytes, /) -> int | None:
        """Find a child by name; None: it has none of that name, for ever."""

    async def children(self, directory: int, /) -> Sequence[int]:
        """Give all children of a directory, by name."""

    async def settle(self) -> None:
        """Wait until the NAR was compared with its NarHash; raise what came of it if not that."""

    def read_nowait(self, start: NarOffset, length: int, /) -> bytes | None:
        """Give bytes that need no task switch, or None: all of them or nothing."""

    def is_here(self, start: NarOffset, length: int, /) -> bool:
        """Whether these bytes need nothing but this machine's disk, as far as is known without looking."""

    async def read(self, start: NarOffset, length: int, /) -> bytes:
        """Give exactly ``length`` checked bytes."""


class PathSource(Protocol):
    """Where an open View finds paths that nobody attached yet."""

    async def find(self, path: StorePath, /) -> Accessor:
        """Give the NAR of a path; NotFound only when everybody who could know said so."""

    def absent_for(self, path: StorePath, /) -> float:
        """Seconds for which a NotFound just given may be relied on."""
