"""Making parts of EROFS images where no interpreter lock is in anybody's way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from narfs.engine.wire import PART_LENGTH, PartPlace, PartsOrder
from narfs.formats.erofs.part import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from narfs.engine.workers import Workers
    from narfs.formats.listing import NarListing
    from narfs.formats.nar import Root

BATCH_NODES: Final = 2048
"""8 ms of a worker's work, of which the way there and back, 1 ms of the event loop's, is to be a small part."""
_AT_ONCE_NODES: Final = 32
"""0.2 ms of work: not worth that way."""
_PIECE_BYTES: Final = 1024 * 1024


class PartWanted(NamedTuple):
    """What ``Layout(listing).part(...)`` is to be called with."""

    listing: NarListing
    block: int
    slab_block: int
    shared_block: int | None = None


async def make_parts(workers: Workers, wanted: Sequence[PartWanted]) -> list[bytes]:
    """Make some parts, in a worker unless they are small; Unavailable, FormatError."""
    if sum(len(each.listing) for each in wanted) <= _AT_ONCE_NODES:
        await trio.lowlevel.checkpoint()
        return [Layout(each.listing).part(*each[1:3], shared_block=each.shared_block) for each in wanted]
    places = tuple(PartPlace(tuple(map(len, each.listing.buffers)), *each[1:]) for each in wanted)
    async with workers.begin(PartsOrder(places), _Unwatched()) as ticket:
        listings = b"".join(buffer for each in wanted for buffer in each.listing.buffers)
        for start in range(0, len(listings), _PIECE_BYTES):
            await ticket.send(listings[start : start + _PIECE_BYTES])
        return list(_parts(memoryview(await ticket.finish())))


def _parts(told: memoryview) -> Iterator[bytes]:
    while told:
        end = PART_LENGTH.size + PART_LENGTH.unpack_from(told)[0]
        yield bytes(told[PART_LENGTH.size : end])
        told = told[end:]


class _Unwatched:
    def on_root(self, root: Root) -> None:
        """Never told."""

    def on_passed(self, nar_bytes: int, delta: bytes) -> None:
        """Never told."""
