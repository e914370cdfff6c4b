"""What the rooms of the engine work with, and what they count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
from lru import LRU

from narfs.cache.key import key_of
from narfs.engine.ahead.governor import Governor
from narfs.engine.fresh import Fresh
from narfs.engine.peek import Beginnings
from narfs.lake.index_stores import IndexStores

if TYPE_CHECKING:
    from narfs.cache.chunk_cache import ChunkCache
    from narfs.engine.trust import TrustPolicy
    from narfs.engine.workers import Workers
    from narfs.formats.narinfo import NarInfo
    from narfs.lake.binary_cache import BinaryCache
    from narfs.lake.upstreams import Upstreams


_KEEPING_AT_ONCE = 16
"""As many as the cache writes at once. Each holds 8 MiB at most, mostly 1 MiB or less."""


_KEEPING_AHEAD_AT_ONCE = 4
"""Of what nobody waits for: a quarter of the cache's threads, so that readers find one."""

_DESCRIBED_KEPT = 16_384
"""Narinfos kept in memory, at about 2 KB each; the rest is in the cache's catalog, 0.2 ms away."""


@dataclass(frozen=True, slots=True)
class Described:
    """A store path, its trusted narinfo, and the lake that gave it."""

    lake: BinaryCache
    narinfo: NarInfo
    kept: bool = False
    """Whether the narinfo was kept from an earlier run: the lake may say more today."""
    origin: BinaryCache | None = None
    """The lake that was first to tell of the NAR, if ``lake`` stands in for it."""

    @property
    def domain(self) -> bytes:
        """In which the NAR is kept, whichever lake it comes from."""
        return (self.origin or self.lake).domain

    @property
    def key(self) -> bytes:
        """The NAR's key in the cache."""
        return key_of(self.narinfo.nar_hash, self.domain)


@dataclass(slots=True)
class Counters:
    """Plain counts since the start; bytes are bytes, everything else is a number of events."""

    passes_begun: int = 0
    passes_verified: int = 0
    passes_failed: int = 0
    corrupt: int = 0
    """NARs, and parts of NARs, whose digest was not the promised one."""
    untrusted: int = 0
    indexes_taken: int = 0
    indexes_refused: int = 0
    """Sealed indexes that were not what they should be, or of no trusted key."""
    indexes_from_stores: int = 0
    """Of those taken: out of an index store."""
    index_pages_fetched: int = 0
    """Pages of indexes that are too long to be fetched whole."""
    range_fetches: int = 0
    range_fetched_nar_bytes: int = 0
    ahead_fetched_bytes: int = 0
    """Of NARs, fetched before anybody asked for them."""
    ahead_used_bytes: int = 0
    """Of those: read by now."""
    peeks: int = 0
    uncached_reads: int = 0
    """Reads of a solid NAR that had to stream it again because the cache could not take it."""


@dataclass(frozen=True, slots=True)
class Means:
    """The nursery, the wings and the policy that one engine works with."""

    nursery: trio.Nursery
    upstreams: Upstreams
    cache: ChunkCache | None
    """None: there is no usable cache directory; everything is served uncached."""
    workers: Workers
    trust: TrustPolicy
    index_stores: IndexStores = field(default_factory=IndexStores)
    described: LRU[str, Described] = field(default_factory=lambda: LRU(_DESCRIBED_KEPT))
    """By hash part, as a lake told it last."""
    beginnings: Beginnings = field(default_factory=Beginnings)
    governor: Governor = field(default_factory=Governor)
    """Says when to fetch what nobody waits for yet. The process has one, for all its Stores."""
    fresh: Fresh = field(default_factory=Fresh)
    """What came ahead a moment ago. The process has one, too."""
    keeping: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(_KEEPING_AT_ONCE))
    """One is taken for each answer that is being written to the cache."""
    keeping_ahead: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(_KEEPING_AHEAD_AT_ONCE))
    """The same of what was fetched ahead."""
    counters: Counters = field(default_factory=Counters)
