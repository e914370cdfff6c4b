"""The sealed index of a path: found in its lake or in an index store, checked, and taken or refused.

Nothing that is sent here can do more than make the path be read as if it had no sealed index. A short object comes
whole with the first request. Of a long one the head does, and the first pages; the others come when needed (pages).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from narfs.errors import Corrupt, FormatError, NarfsError, NotFound, OverQuota, Unavailable
from narfs.formats.seal import head_end, index_name, unseal_beginning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from narfs.engine.means import Described, Means
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.sealed_pages import PagedIndex
    from narfs.lake.binary_cache import BinaryCache

_log = logging.getLogger(__name__)

BEGINNING_BYTES: Final = 1024 * 1024
"""Of the first request: 8 ms at 1 Gbit/s. The whole index of 90 000 files, or of 6 GB in frames of 256 KiB."""


class Place(NamedTuple):
    """Where a sealed index is."""

    lake: BinaryCache
    name: str
    in_store: bool
    """Whether that is an index store."""


class Sealed(NamedTuple):
    """A sealed index that counts, as much of it as is here, and where the rest is."""

    paged: PagedIndex
    place: Place


async def find_sealed(means: Means, described: Described) -> Sealed | None:
    """Give the first sealed index that counts: the lake's own, else an index store's. What is refused is logged here.

    Unavailable: there was none, but a place could not be asked; that is logged too.
    """
    trouble: Unavailable | None = None
    for place in _places(means, described):
        try:
            sealed = await _take_twice(means, described.narinfo, place)
        except Unavailable as error:
            trouble = trouble or error
            if not place.in_store:  # a store says so itself, once for all paths
                _log.warning("%s; %s is read without this index", error, described.narinfo.path.base_name)
        except OverQuota:
            raise
        except NarfsError as error:
            means.counters.indexes_refused += 1
            _log.warning("%s: %s: %s", described.narinfo.path.base_name, place.lake.url, error)
        else:
            if sealed is not None:
                means.counters.indexes_taken += 1
                means.counters.indexes_from_stores += place.in_store
                return sealed
    if trouble is not None:
        raise trouble
    return None


def _places(means: Means, described: Described) -> Iterator[Place]:
    narinfo = described.narinfo
    if narinfo.index_name is not None:
        yield Place(described.lake, narinfo.index_name, in_store=False)
    for store in means.index_stores.lakes:
        yield Place(store, index_name(narinfo.path), in_store=True)


async def _take_twice(means: Means, narinfo: NarInfo, place: Place) -> Sealed | None:
    """Take it, at the second time if its bytes are wrong, on their way perhaps: what stands in for it is the NAR."""
    try:
        return await _take(means, narinfo, place)
    except (Corrupt, FormatError):
        return await _take(means, narinfo, place)


async def _take(means: Means, narinfo: NarInfo, place: Place) -> Sealed | None:
    """Fetch what comes at first, and check it; None if an index store has none. Everything else is raised."""
    if place.in_store:
        try:
            data = await means.index_stores.beginning(place.lake, narinfo.path, BEGINNING_BYTES)
        except NotFound:
            return None
    else:
        with means.governor.asking(place.lake, 0, None):  # so the pace of the lake is known before anything is read
            data = await place.lake.index_beginning(place.name, BEGINNING_BYTES)
    whole = len(data) < BEGINNING_BYTES
    if not whole and (missing := head_end(data) - len(data)) > 0:
        data += await place.lake.read_index(place.name, len(data), missing)
    unseal = partial(unseal_beginning, data, narinfo, means.trust.index_keys, whole=whole)
    return Sealed(await trio.to_thread.run_sync(unseal), place)
