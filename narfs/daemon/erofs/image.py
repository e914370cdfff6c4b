"""The image of one View: parts that are ready are copied, the others are made by workers and kept for the next View."""

from __future__ import annotations

import hashlib
import os
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from narfs.cache.lots import Wanted
from narfs.engine.part_making import make_part
from narfs.errors import Unavailable
from narfs.formats.erofs.image import head, root_of
from narfs.formats.erofs.lot import lot_blocks, lot_key
from narfs.formats.erofs.ondisk import BLOCK_BYTES
from narfs.formats.ls import from_ls
from narfs.mount.view import LINKS_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from narfs.cache.chunk_cache import ChunkCache
    from narfs.cache.lots import Lots
    from narfs.daemon.session import Household
    from narfs.formats.erofs.image import Root
    from narfs.formats.erofs.lot import Lot
    from narfs.formats.listing import NarListing
    from narfs.mount.view import Attachment, View

_AT_ONCE: Final = 16
"""Parts under way. A worker is to have the next ones before it is done with one."""

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


class Laid(NamedTuple):
    """Which blocks of a slab an attachment's NAR has, and by what lot."""

    block: int
    blocks: int
    attachment: Attachment
    key: bytes


class NewPart(NamedTuple):
    """A part that was made, for the next View: what ``Parts.keep`` wants."""

    nar_key: bytes
    key: bytes
    lot: Lot
    part: bytes


async def write_image(
    view: View, household: Household, image: Path, fresh: Mapping[bytes, NewPart]
) -> tuple[list[Laid], list[NewPart]]:
    """Write the image of a View whose trees are all known; give what has which blocks of its slab, and the new parts.

    ``fresh`` are parts that are not in the cache yet, by the keys of their lots.
    OSError; Unavailable; UsageError if the View is too large for one.
    """
    members = list(_members(view))
    keys = await trio.to_thread.run_sync(_keys, members)
    placed = _place(members, keys, household.lots)
    fd = os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        roots = await trio.to_thread.run_sync(_write_ready, fd, household.cache, placed, fresh)
        new: list[NewPart] = []
        limiter = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for place, one in enumerate(placed):
                if roots[place] is None:
                    nursery.start_soon(_write_new, fd, household, one, roots, place, new, limiter)
        await trio.to_thread.run_sync(_write_head, fd, members, roots)
    finally:
        os.close(fd)
    ranges = [
        Laid(one.lot.slab_block, one.lot.slab_blocks, attachment, one.key)
        for one, attachment in zip(placed, view.attachments, strict=False)  # .links is behind them
        if not one.member.earlier
    ]
    return ranges, new


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
    fd: int, cache: ChunkCache | None, placed: Sequence[_Placed], fresh: Mapping[bytes, NewPart]
) -> list[Root | None]:
    """Copy the parts that are there; None stands for one that is not."""
    roots: list[Root | None] = []
    for one in placed:
        member, key, lot, _ = one
        part: bytes | memoryview | None = None
        if (new := fresh.get(key)) is not None and new.lot == lot:
            part = new.part
        elif cache is not None and not member.earlier:
            part = cache.parts.load(member.nar_key, key, lot)
        roots.append(None if part is None else _write_part(fd, one, part))
    return roots


async def _write_new(  # noqa: PLR0917 - a nursery hands over by position
    fd: int,
    household: Household,
    one: _Placed,
    roots: list[Root | None],
    place: int,
    new: list[NewPart],
    limiter: trio.CapacityLimiter,
) -> None:
    member, key, lot, first = one
    async with limiter:
        part = await make_part(
            household.workers, member.listing, lot.block, first.slab_block, shared_block=one.shared_block
        )
        roots[place] = await trio.to_thread.run_sync(_write_part, fd, one, part)
    if not member.earlier and member.nar_key:
        new.append(NewPart(member.nar_key, key, lot, part))


def _write_part(fd: int, one: _Placed, part: bytes | memoryview) -> Root:
    _write(fd, part, one.lot.block * BLOCK_BYTES)
    return root_of(one.member.name, part, one.lot.block, shared_block=one.shared_block)


def _write_head(fd: int, members: Sequence[_Member], roots: Sequence[Root | None]) -> None:
    inodes = sum(len(member.listing) for member in members)
    nar_bytes = sum(member.nar_size for member in members)
    _write(fd, head((root for root in roots if root is not None), inodes=inodes, nar_bytes=nar_bytes), 0)


def _write(fd: int, data: bytes | memoryview, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written
