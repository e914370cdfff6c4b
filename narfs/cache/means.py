"""What the rooms of the cache share, and what they count."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from narfs.formats import base32

if TYPE_CHECKING:
    from pathlib import Path
    from weakref import WeakValueDictionary

    import trio
    from lru import LRU

    from narfs.cache.cached_nar import CachedNar
    from narfs.cache.catalog import Catalog
    from narfs.cache.draft import Draft
    from narfs.cache.health import Health
    from narfs.cache.pins import Pins
    from narfs.cache.places import Places


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Counts since the start; sizes are bytes."""

    used_bytes: int
    budget_bytes: int
    keep_free_bytes: int
    open_nars: int
    drafts: int
    hits: int
    misses: int
    """Reads that ``CachedNar.read`` could not answer."""
    bad_chunks: int
    """Chunks that were on disk and not what they should be."""
    evicted_bytes: int
    pinned_bytes: int
    """Of NARs that are not evicted, whether they are here or not."""
    unusable: bool
    """The last write failed; reads are served uncached until one works."""


@dataclass(slots=True)
class Counters:
    """Plain counts since the start."""

    hits: int = 0
    misses: int = 0
    bad_chunks: int = 0
    evicted_bytes: int = 0
    lost: int = 0
    """How often something went that was not evicted: chunks that were bad, NARs that were moved out."""
    files_changed: int = 0
    """How often files of a NAR were exchanged, punched or moved: what a thread read of them before may be old."""


@dataclass(frozen=True, slots=True)
class Means:
    """One of each per ChunkCache; only the event loop changes them."""

    places: Places
    catalog: Catalog
    health: Health
    nursery: trio.Nursery
    threads: trio.CapacityLimiter
    scratch: memoryview | None
    """Where ``read_nowait`` reads into; None where the file system does not offer RWF_NOWAIT."""
    live: WeakValueDictionary[bytes, CachedNar]
    """Every CachedNar that somebody holds: there is never a second one of the same NAR."""
    opened: LRU[bytes, CachedNar]
    """Those with open descriptors; the least recently opened is closed when there are too many."""
    power_cut: bool
    pins: Pins
    drafts: set[Draft] = field(default_factory=set)
    doomed: list[Path] = field(default_factory=list)
    """Files in ``scratch`` that are to be removed; a gigabyte takes a disk longer than a loop should wait."""
    changing: dict[bytes, set[int]] = field(default_factory=dict)
    """Segments that a thread is punching now, by key; INDEX among them: all files of the NAR are being replaced."""
    counters: Counters = field(default_factory=Counters)
    unreadable: set[bytes] = field(default_factory=set)
    """NARs that the disk, or a lack of descriptors, kept from being opened when they were last wanted."""

    def cannot_open(self, key: bytes, error: object) -> None:
        """Warn that a NAR cannot be opened; once, until it was."""
        if key not in self.unreadable:
            self.unreadable.add(key)
            _log.warning("cache: %s: %s; fetching again", base32.encode(key), error)

    def move_out(self, key: bytes) -> None:
        """Take a NAR out of the cache at once; its blocks are given back soon. Does not wait: four renames, 40 µs."""
        self.catalog.forget_nar(key)
        self.counters.files_changed += 1
        self.counters.lost += 1
        for path in self.places.of(key):
            doomed = self.places.new_scratch(key)
            try:
                path.rename(doomed)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.health.failed(error)
            else:
                self.doomed.append(doomed)
