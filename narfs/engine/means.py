"""What the rooms of the engine work with, and what they count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from narfs.engine.peek import Beginnings

if TYPE_CHECKING:
    import trio

    from narfs.cache.chunk_cache import ChunkCache
    from narfs.engine.trust import TrustPolicy
    from narfs.engine.workers import Workers
    from narfs.formats.narinfo import NarInfo
    from narfs.lake.binary_cache import BinaryCache
    from narfs.lake.upstreams import Upstreams


@dataclass(frozen=True, slots=True)
class Described:
    """A store path, its trusted narinfo, and the lake that gave it."""

    lake: BinaryCache
    narinfo: NarInfo


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
    range_fetches: int = 0
    range_fetched_nar_bytes: int = 0
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
    beginnings: Beginnings = field(default_factory=Beginnings)
    counters: Counters = field(default_factory=Counters)
