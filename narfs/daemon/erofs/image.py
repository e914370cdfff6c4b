"""The image of one View: parts that are ready are copied, the others are made by workers."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from narfs.cache.lots import Wanted
from narfs.daemon.erofs.new_parts import NewPart
from narfs.errors import Unavailable, UsageError
from narfs.formats.erofs.image import head, root_of
from narfs.formats.erofs.lot import lot_blocks, lot_key
from narfs.formats.erofs.ondisk import BLOCK_BYTES
from narfs.formats.ls import from_ls
from narfs.mount.view import LINKS_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from narfs.cache.chunk_cache import ChunkCache
    from narfs.cache.lots import Lots
    from narfs.daemon.erofs.new_parts import NewParts
    from narfs.daemon.session import Household
    from narfs.formats.erofs.image import Root
    from narfs.formats.erofs.lot import Lot
    from narfs.formats.listing import NarListing
    from narfs.mount.accessor import Accessor
    from narfs.mount.view import Attachment, View

_FORESEEN_BYTES: Final = 1024 * 1024
"""A listing that takes longer than 0.5 ms to hash is left to a thread."""

_EMPTY: Final = from_ls(b'{"version":1,"root":{"type":"directory","entries":{}}}')
"""What ``.links`` is."""


class _Member(NamedTuple):
    """What is to be in the root under ``name``. ``earlier`` counts the members before it with the same NAR."""

    name: bytes
    nar_key: bytes
    nar_size: int
    listing: NarListing
    earlier: int


class _Placed(NamedTuple):
    """Where its part goes, and the lot of the first member with its NAR, where its files and symlinks are."""

    member: _Member
    key: bytes
    lot: Lot
    first: Lot

    @property
    def shared_block(self) -> int | None:
        return self.first.block if self.member.earlier else None

    @property
    def new(self) -> NewPart:
        member, key, lot, first = self
        kept_beside = None if member.earlier or not member.nar_key else member.nar_key
        return NewPart(kept_beside, key, lot._replace(slab_block=first.slab_block), member.listing, self.shared_block)


class Laid(NamedTuple):
    """Which blocks of a slab an attachment's NAR has, and by what lot."""

    block: int
    blocks: int
    attachment: Attachment
    key: bytes


def foresee(accessor: Accessor, lots: Lots, new_parts: NewParts) -> None:
    """Order the part of a path of which an image is going to be written, if its tree is known. Not a checkpoint."""
    listing = accessor.listing
    if listing is None or sum(map(len, listing.buffers)) > _FORESEEN_BYTES:
        return
    key = lot_key(accessor.key, listing)
    try:
        [lot] = lots.give([Wanted(key, *lot_blocks(listing, accessor.nar_size))])
    except UsageError:
        return  # who writes the image will hear of it
    new_parts.order(NewPart(accessor.key, key, lot, listing))


async def write_image(view: View, household: Household, image: Path, new_parts: NewParts) -> list[Laid]:
    """Write the image of a View whose trees are all known; give what has which blocks of its slab.

    OSError; Unavailable; UsageError if the View is too large for one.
    """
    members = list(_members(view))
    keys = await trio.to_thread.run_sync(_keys, members)
    placed = _place(members, keys, household.lots)
    fd = os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        new = [new_parts.has(one.key, one.new.lot) for one in placed]
        ready = await trio.to_thread.run_sync(_write_ready, fd, household.cache, placed, new)
        missing = [one for one, root in zip(placed, ready, strict=True) if root is None]
        made = await new_parts.wait([one.new for one in missing])
        await trio.to_thread.run_sync(_write_rest, fd, members, ready, missing, made)
    finally:
        os.close(fd)
    return [
        Laid(one.lot.slab_block, one.lot.slab_blocks, attachment, one.key)
        for one, attachment in zip(placed, view.attachments, strict=False)  # .links is behind them
        if not one.member.earlier
    ]


def _members(view: View) -> Iterator[_Member]:
    seen: dict[tuple[bytes, int], Iterator[int]] = {}
    for attachment in view.attachments:
        accessor = attachment.accessor
        if accessor.listing is None:
            raise Unavailable(f"{attachment.path.path}: its tree is not known")
        earlier = next(seen.setdefault((accessor.key, accessor.nar_size), count()))
        name = attachment.path.base_name.encode("ascii")
        yield _Member(name, accessor.key, accessor.nar_size, accessor.listing, earlier)
    yield _Member(LINKS_NAME, b"", 0, _EMPTY, 0)


def _keys(members: Sequence[_Member]) -> list[bytes]:
    """Name the lots; a path with the NAR of an earlier one has one of its own."""
    keys = []
    for member in members:
        key = lot_key(member.nar_key, member.listing)
        keys.append(hashlib.sha256(b"%d %b" % (member.earlier, key)).digest() if member.earlier else key)
    return keys


def _place(members: Sequence[_Member], keys: Sequence[bytes], lots: Lots) -> list[_Placed]:
    wanted = []
    for member, key in zip(members, keys, strict=True):
        blocks, slab_blocks = lot_blocks(member.listing, member.nar_size)
        wanted.append(Wanted(key, blocks, 0 if member.earlier else slab_blocks))
    first: dict[tuple[bytes, int], Lot] = {}
    placed = []
    for member, key, lot in zip(members, keys, lots.give(wanted), strict=True):
        placed.append(_Placed(member, key, lot, first.setdefault((member.nar_key, member.nar_size), lot)))
    return placed


def _write_ready(
    fd: int, cache: ChunkCache | None, placed: Sequence[_Placed], new: Sequence[bool]
) -> list[Root | None]:
    """Copy the parts that the cache has, but of those that are ``new``; None stands for one that is not there."""
    roots: list[Root | None] = []
    for one, is_new in zip(placed, new, strict=True):
        part = None
        if cache is not None and not is_new and not one.member.earlier:
            part = cache.parts.load(one.member.nar_key, one.key, one.lot)
        roots.append(None if part is None else _write_part(fd, one, part))
    return roots


def _write_rest(
    fd: int,
    members: Sequence[_Member],
    ready: Sequence[Root | None],
    missing: Sequence[_Placed],
    made: Sequence[bytes],
) -> None:
    written = map(partial(_write_part, fd), missing, made)
    roots = [next(written) if root is None else root for root in ready]
    inodes = sum(len(member.listing) for member in members)
    nar_bytes = sum(member.nar_size for member in members)
    _write(fd, head(roots, inodes=inodes, nar_bytes=nar_bytes), 0)


def _write_part(fd: int, one: _Placed, part: bytes | memoryview) -> Root:
    _write(fd, part, one.lot.block * BLOCK_BYTES)
    return root_of(one.member.name, part, one.lot.block, shared_block=one.shared_block)


def _write(fd: int, data: bytes | memoryview, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written
