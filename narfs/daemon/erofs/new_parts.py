"""NewParts: parts of images that no cache has yet. Each is made once, for all Views that are made at the same time.

A part may be ordered as soon as its tree is known, while its View still waits for others. A batch begins when it is
worth the way to a worker, and what is left when somebody waits for it. What was made is kept in the cache, beside its
NAR's index, and given from here until then. Of a batch that fails each part is made by itself: a tree that cannot be
laid out fails the Views that it is in, and no others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import trio

from narfs.engine.flights import Flight, take_off
from narfs.engine.part_making import BATCH_NODES, PartWanted, make_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from narfs.daemon.session import Household
    from narfs.formats.erofs.lot import Lot
    from narfs.formats.listing import NarListing

_INDEXES_WRITTEN_S: Final = 3.0
"""Sealed indexes that have just come are being written; parts are kept beside them only."""


class NewPart(NamedTuple):
    """A part that is not there: for which lot, with the name of that, and where the contents are.

    ``nar_key`` is that of the NAR which the cache keeps it beside, None if nobody will want it again.
    """

    nar_key: bytes | None
    key: bytes
    lot: Lot
    listing: NarListing
    shared_block: int | None = None


_Made: TypeAlias = "Mapping[bytes, bytes | Flight[_Made]]"
"""What became of each part of a batch: it was made, or is being made by itself."""


class NewParts:
    """Those of one process, made and kept in ``nursery``."""

    def __init__(self, household: Household, nursery: trio.Nursery) -> None:
        self._workers = household.workers
        self._cache = household.cache
        self._nursery = nursery
        self._waiting: dict[bytes, NewPart] = {}
        self._waiting_nodes = 0
        self._flights: dict[bytes, tuple[Lot, Flight[_Made]]] = {}

    def has(self, key: bytes, lot: Lot) -> bool:
        """Say whether a part is ordered or made, and not in the cache yet."""
        return (key in self._waiting and self._waiting[key].lot == lot) or (
            key in self._flights and self._flights[key][0] == lot
        )

    def order(self, part: NewPart) -> None:
        """Have one made, sooner or later. Not a checkpoint."""
        if self.has(part.key, part.lot):
            return
        self._waiting[part.key] = part
        self._waiting_nodes += len(part.listing)
        if self._waiting_nodes >= BATCH_NODES:
            self._begin()

    async def wait(self, wanted: Sequence[NewPart]) -> list[bytes]:
        """Give parts, made now if they were not; Unavailable, FormatError."""
        for part in wanted:
            self.order(part)
        self._begin()
        flights = [self._flights[part.key][1] for part in wanted]
        return [await _result(part.key, flight) for part, flight in zip(wanted, flights, strict=True)]

    def _begin(self) -> None:
        if not self._waiting:
            return
        batch, self._waiting, self._waiting_nodes = list(self._waiting.values()), {}, 0
        flight = take_off(self._nursery, partial(self._make, batch))
        self._flights |= {part.key: (part.lot, flight) for part in batch}

    async def _make(self, batch: Sequence[NewPart]) -> _Made:
        try:
            return await self._make_at_once(batch)
        except Exception:  # whatever it is, each that meets it by itself tells
            if len(batch) == 1:
                raise
        alone = {each.key: (each.lot, take_off(self._nursery, partial(self._make, [each]))) for each in batch}
        self._flights |= alone
        return {key: flight for key, (_, flight) in alone.items()}

    async def _make_at_once(self, batch: Sequence[NewPart]) -> _Made:
        wanted = [PartWanted(each.listing, each.lot.block, each.lot.slab_block, each.shared_block) for each in batch]
        try:
            made = await make_parts(self._workers, wanted)
        except BaseException:
            self._forget(batch)
            raise
        self._nursery.start_soon(self._keep, batch, made)
        return {each.key: part for each, part in zip(batch, made, strict=True)}

    async def _keep(self, batch: Sequence[NewPart], made: Sequence[bytes]) -> None:
        """Keep new parts, now that nobody waits for them."""
        later = [each for each in zip(batch, made, strict=True) if not await self._keep_one(*each)]
        await trio.sleep(_INDEXES_WRITTEN_S)
        for each in later:
            await self._keep_one(*each)
        self._forget(batch)

    async def _keep_one(self, part: NewPart, made: bytes) -> bool:
        if self._cache is None or part.nar_key is None:
            return True
        return await self._cache.parts.keep(part.nar_key, part.key, part.lot, made)

    def _forget(self, batch: Sequence[NewPart]) -> None:
        for each in batch:
            self._flights.pop(each.key, None)


async def _result(key: bytes, flight: Flight[_Made]) -> bytes:
    made = (await flight.result())[key]
    return made if isinstance(made, bytes) else await _result(key, made)
