"""ChunkCache: what the engine sees of the cache directory.

Opening it looks at the lock, the catalog and ``scratch``, never at the NARs: a NAR is looked at when somebody asks
for it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import trio
from lru import LRU

from narfs.cache.audit import Audit, Cursor
from narfs.cache.budget import INDEX
from narfs.cache.cached_nar import CachedNar
from narfs.cache.catalog import Catalog
from narfs.cache.disk import offers_nowait, remove_files, remove_tree, try_write
from narfs.cache.draft import Draft
from narfs.cache.eviction import Evictor
from narfs.cache.health import Health
from narfs.cache.holder import Holder
from narfs.cache.key import key_of
from narfs.cache.layout import ABSENT, CHECKED, Layout
from narfs.cache.means import CacheStatistics, Means
from narfs.cache.nar_file import Loaded, install, load
from narfs.cache.parts import Parts
from narfs.cache.pinned import Pinned
from narfs.cache.pins import Pins
from narfs.cache.places import Places
from narfs.cache.zeros import PIECE
from narfs.errors import CacheUnusable, FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from narfs.formats.index import NarIndex

__all__ = ["CacheStatistics", "CachedNar", "ChunkCache", "Draft"]

_log = logging.getLogger(__name__)

_OPENED_MAX: Final = 256
"""NARs with open descriptors, two each: half of the usual soft limit of 1024."""

_THREADS_MAX: Final = 16
"""Reads and writes of the disk at once; more of them only queue in the device."""

_LOADED_AT_ONCE: Final = 64
"""NARs whose indexes one thread reads in one go; 0.1 ms each in the disk's cache, and a hop costs as much."""

_SLOW_DISK_S: Final = 0.002
"""A disk that takes longer for one is asked for several at once. Ten threads, each waiting for the interpreter's lock,
took 98 ms of processor to open 301 NARs out of memory, one takes 41; from an SSD both take 105 ms on the clock."""

_HOUSEKEEPING_EVERY_S: Final = 3.0
"""What a kill may cost of recency and narinfos."""

_SCRATCH_BYTES: Final = 1024 * 1024 + 2 * PIECE
"""Longest ``read_nowait``: the kernel asks for at most 1 MiB, which is read in whole pieces (``zeros``)."""


class ChunkCache:
    """One cache directory. ``catalog`` keeps narinfos and roots for its users, ``parts`` what EROFS images are of."""

    def __init__(self, holder: Holder, means: Means, budget_bytes: int, keep_free_bytes: int) -> None:
        self.catalog = means.catalog
        self.parts = Parts(means)
        self._holder = holder
        self._means = means
        self._budget_bytes = budget_bytes
        self._keep_free_bytes = keep_free_bytes
        self._evictor = Evictor(means, budget_bytes, keep_free_bytes)
        self.pinned = Pinned(self, means, self._evictor)
        self._housekeeping = trio.CancelScope()
        self._closed = False
        self._recording = trio.Lock()
        self._recorded: set[bytes] = set()
        """NARs whose recorded size was compared with the disk since the start; 100 bytes each."""

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        budget_bytes: int,
        keep_free_bytes: int,
        nursery: trio.Nursery,
        threads: trio.CapacityLimiter | None = None,
    ) -> ChunkCache:
        """Take the directory, keep house and check ahead in ``nursery``: CacheHeld, CacheUnusable. ``aclose`` it."""
        places = Places(directory)
        health = Health(str(directory))
        try:
            holder, catalog, pins, nowait = await trio.to_thread.run_sync(_prepare, places, health)
        except OSError as error:
            raise CacheUnusable(f"cache {directory}: {error}") from error
        means = Means(
            places=places,
            catalog=catalog,
            health=health,
            nursery=nursery,
            threads=threads or trio.CapacityLimiter(_THREADS_MAX),
            scratch=memoryview(bytearray(_SCRATCH_BYTES)) if nowait else None,
            live=WeakValueDictionary(),
            opened=LRU(_OPENED_MAX, callback=lambda _, nar: nar.close()),
            power_cut=holder.power_cut,
            pins=pins,
        )
        pins.remind(catalog)
        cache = cls(holder, means, budget_bytes, keep_free_bytes)
        nursery.start_soon(cache._keep_house, name=f"housekeeping of {directory}")
        return cache

    async def aclose(self) -> None:
        """Write what is new, discard drafts, retire every CachedNar, let go of the directory. Cannot be cancelled."""
        if self._closed:
            return
        self._closed = True
        self._housekeeping.cancel()
        for draft in list(self._means.drafts):
            draft.discard()
        for nar in list(self._means.live.values()):
            nar.retire()
        with trio.CancelScope(shield=True):
            async with self._evictor.turn:
                try:
                    await self.catalog.flush()
                except CacheUnusable as error:
                    _log.debug("closing the cache: %s", error)
                await self.catalog.aclose()
                await trio.to_thread.run_sync(self._leave)

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._means.places.directory

    def statistics(self) -> CacheStatistics:
        """Tell how it goes."""
        means, counters = self._means, self._means.counters
        return CacheStatistics(
            used_bytes=self.catalog.used_bytes + sum(draft.nar_size for draft in means.drafts),
            budget_bytes=self._budget_bytes,
            keep_free_bytes=self._keep_free_bytes,
            open_nars=len(means.opened),
            drafts=len(means.drafts),
            hits=counters.hits,
            misses=counters.misses,
            bad_chunks=counters.bad_chunks,
            evicted_bytes=counters.evicted_bytes,
            pinned_bytes=means.pins.nar_bytes,
            unusable=means.health.in_trouble,
        )

    # NARs that are there.

    def nar(self, nar_hash: bytes, domain: bytes = b"") -> CachedNar | None:
        """Give a NAR whose index is here, whatever chunks are: the same object as long as somebody holds it.

        Not a checkpoint. Reads the disk if it was not open: 0.2 ms for a small NAR, 0.8 ms more for each MiB of index.
        ``load`` does not keep the loop from other work meanwhile.
        """
        return self._nar(key_of(nar_hash, domain), nar_hash)

    async def load(self, nar_hash: bytes, domain: bytes = b"") -> CachedNar | None:
        """Give what ``nar`` gives, but read the disk in a thread."""
        return (await self.load_all([(nar_hash, domain)]))[0]

    async def load_all(self, nars: Sequence[tuple[bytes, bytes]]) -> list[CachedNar | None]:
        """Give what ``load`` gives of each NarHash and domain; many share a hop to a thread, one after the other."""
        wanted = [(key_of(nar_hash, domain), nar_hash) for nar_hash, domain in nars]
        found: dict[bytes, CachedNar | None] = {}
        unread = list({key: (key, nar_hash) for key, nar_hash in wanted if key not in self._means.live}.values())
        starts = [] if self._closed else range(0, len(unread), _LOADED_AT_ONCE)
        left = [unread[start : start + _LOADED_AT_ONCE] for start in starts]
        slow = False
        while left and not slow:
            some, *left = left
            begun = trio.current_time()
            await self._load_some(some, found)
            slow = trio.current_time() - begun > len(some) * _SLOW_DISK_S
        async with trio.open_nursery() as nursery:
            for some in left:
                nursery.start_soon(self._load_some, some, found)
        return [found[key] if key in found else self._nar(key, nar_hash) for key, nar_hash in wanted]

    async def _load_some(self, nars: Sequence[tuple[bytes, bytes]], found: dict[bytes, CachedNar | None]) -> None:
        before, changing = self._means.counters.files_changed, set(self._means.changing)
        loaded = await trio.to_thread.run_sync(
            lambda: [self._load(*nar) for nar in nars], limiter=self._means.threads, abandon_on_cancel=True
        )
        if before != self._means.counters.files_changed or self._closed:
            return
        for (key, _), each in zip(nars, loaded, strict=True):
            if key not in changing and key not in self._means.live:
                found[key] = self._publish(key, each)

    def take_in(self, loaded: Loaded) -> CachedNar:
        """Give the CachedNar of what was found on disk while nobody changed it there, and record its size."""
        key = loaded.file.layout.key
        if (live := self._means.live.get(key)) is not None:
            if not self.catalog.size_of(key):
                self._reconcile(loaded, live.sizes())
            return live
        self._reconcile(loaded, loaded.sizes())
        return self._adopt(self._cached(loaded))

    def audit(self, *, compare: bool = True) -> Audit:
        """Give what reads all that is kept, and drops what is wrong."""
        return Audit(self, self._means, self._evictor, compare=compare)

    async def shrink(self, to_bytes: int, seconds: float) -> bool:
        """Evict until ``to_bytes`` are left, for about ``seconds``; say whether that is all. CacheUnusable."""
        self._require()
        await self._record_all()
        return await self._evictor.shrink(to_bytes, seconds)

    # NARs that come.

    def can_take(self, nar_size: int) -> bool:
        """Say whether ``begin`` has a chance."""
        try:
            return not self._closed and self._means.health.usable and self._evictor.could_take(nar_size)
        except OSError:
            return False

    def has_room(self, nbytes: int) -> bool:
        """Say whether so many bytes, which nobody needs yet, would leave alone what is kept free of the disk."""
        try:
            return not self._closed and self._means.health.usable and not self._evictor.room().lack(nbytes)
        except OSError:
            return False

    def room_bytes(self) -> int:
        """Say how much may come without an eviction."""
        try:
            return 0 if self._closed or not self._means.health.usable else self._evictor.room().left
        except OSError:
            return 0

    async def begin(self, nar_hash: bytes, nar_size: int, domain: bytes = b"") -> Draft:
        """Make room for a NAR that is about to pass: CacheUnusable if there is none or the disk fails.

        One NAR may exceed the budget by itself; the space that is kept free is never touched.
        """
        self._require()
        if not self.can_take(nar_size):
            raise CacheUnusable(
                f"cache {self._means.places.directory}: a NAR of {nar_size} bytes does not fit the disk"
            )
        await self._evictor.make_room(nar_size, oversize=True)
        try:
            return Draft(self, self._means, nar_hash, nar_size, key_of(nar_hash, domain))
        except OSError as error:
            raise self._means.health.failed(error) from error

    async def commit_draft(self, draft: Draft, index: NarIndex, *, random_access: bool) -> CachedNar:
        """Do what ``Draft.commit`` says."""
        if (index.nar_hash, index.nar_size) != (draft.nar_hash, draft.nar_size):
            raise ValueError("this index is of another NAR")
        self._require()
        if not draft.is_complete():
            raise CacheUnusable(f"draft {draft.path.name} is not complete")
        return await self._install(draft.key, index, random_access=random_access, contents=draft)

    async def keep_index(self, index: NarIndex, domain: bytes = b"", *, random_access: bool = False) -> CachedNar:
        """Keep an index without contents; chunks may come by ``CachedNar.write``. CacheUnusable.

        What is known of this NAR already stays as it is, unless it was only vouched for and this is made from the NAR.
        """
        if (known := await self.load(index.nar_hash, domain)) is not None and _stays(known.index, index):
            return known
        self._require()
        key = key_of(index.nar_hash, domain)
        return await self._install(key, index, random_access=random_access, contents=None)

    async def _install(self, key: bytes, index: NarIndex, *, random_access: bool, contents: Draft | None) -> CachedNar:
        means = self._means
        layout = Layout.of(key, index.grid, random_access=random_access or index.frames is not None)
        states = bytearray([ABSENT if contents is None else CHECKED]) * layout.grid.count
        data = index.to_bytes()
        async with self._evictor.turn:
            if (
                contents is None
                and (known := self._nar(key, index.nar_hash)) is not None
                and _stays(known.index, index)
            ):
                return known  # somebody else was first
            self._retire(key)
            self._record(key, layout.bytes_by_segment(states), layout.map_bytes + len(data))
            # From here nobody opens the files that are about to be replaced.
            means.changing[key] = {INDEX}
            try:
                # Recorded before it is there: killed in between, the files are known, and removed by eviction.
                await self.catalog.flush()
                path = None if contents is None else contents.path
                file = await trio.to_thread.run_sync(install, means.places, layout, data, path)
            except BaseException as error:
                means.move_out(key)
                if isinstance(error, OSError):
                    raise means.health.failed(error) from error
                raise
            finally:
                del means.changing[key]
            means.counters.files_changed += 1
            means.health.worked()
            return self._adopt(CachedNar(means, index, file, states, self._evictor.make_room_for_chunk))

    # Inside.

    def _require(self) -> None:
        if self._closed:
            raise CacheUnusable(f"cache {self._means.places.directory} is closed")
        self._means.health.require()

    def _nar(self, key: bytes, nar_hash: bytes) -> CachedNar | None:
        if self._closed:
            return None
        if (live := self._means.live.get(key)) is not None:
            return live
        return self._publish(key, self._load(key, nar_hash))

    def _load(self, key: bytes, nar_hash: bytes) -> Loaded | FormatError | OSError | None:
        try:
            return load(self._means.places, key, nar_hash)
        except (FormatError, OSError) as error:
            return error

    def _publish(self, key: bytes, loaded: Loaded | FormatError | OSError | None) -> CachedNar | None:
        if loaded is None:
            return None
        changing = self._means.changing.get(key, set())
        if INDEX in changing:
            return None
        if not isinstance(loaded, Loaded):
            self._means.cannot_open(key, loaded)
            if not changing and isinstance(loaded, (FormatError, FileNotFoundError)):
                self._means.move_out(key)
            return None
        self._means.unreadable.discard(key)
        nar = self._cached(loaded)
        if key not in self._recorded and not changing:
            self._reconcile(loaded, loaded.sizes())
        nar.forget(changing)
        return self._adopt(nar)

    def _cached(self, loaded: Loaded) -> CachedNar:
        return CachedNar(self._means, loaded.index, loaded.file, loaded.states, self._evictor.make_room_for_chunk)

    def _reconcile(self, loaded: Loaded, sizes: dict[int, int]) -> None:
        """Record what a NAR takes on disk, if a kill or a new catalog made that unknown."""
        key = loaded.file.layout.key
        rest = max(loaded.allocated_bytes - sum(sizes.values()), loaded.file.layout.map_bytes)
        known, found = self.catalog.size_of(key), sum(sizes.values()) + rest
        if not known or abs(known - found) > loaded.file.layout.grid.chunk_bytes:
            self._record(key, sizes, rest)
        self._recorded.add(key)

    def _record(self, key: bytes, sizes: dict[int, int], index_bytes: int) -> None:
        self.catalog.forget_nar(key)
        for segment, size in (*sizes.items(), (INDEX, index_bytes)):
            self.catalog.grow(key, segment, size)
        self._recorded.add(key)

    def _adopt(self, nar: CachedNar) -> CachedNar:
        self._retire(nar.key)
        self._means.live[nar.key] = nar
        self._means.opened[nar.key] = nar
        return nar

    def _retire(self, key: bytes) -> None:
        if (live := self._means.live.get(key)) is not None:
            live.retire()

    async def _keep_house(self) -> None:
        """Every few seconds: write the catalog, remove what is doomed, keep the floor free, try a disk that failed."""
        with self._housekeeping:
            while True:
                await trio.sleep(_HOUSEKEEPING_EVERY_S)
                try:
                    doomed = self._means.doomed[:]
                    await trio.to_thread.run_sync(remove_files, doomed)
                    del self._means.doomed[: len(doomed)]
                    if not self._means.health.usable:
                        continue
                    await self._record_all()
                    await self.catalog.flush()
                    await self._evictor.keep_floor()
                    await self._try_disk()
                except (CacheUnusable, OSError, MemoryError, RuntimeError) as error:  # the last: no thread to be had
                    _log.debug("housekeeping: %s", error)

    async def _try_disk(self) -> None:
        """Find out whether a disk that failed takes writes again: where all is in memory nobody else writes."""
        health = self._means.health
        if not health.in_trouble:
            return
        try:
            await trio.to_thread.run_sync(try_write, self._means.places.scratch / "trial")
        except OSError as error:
            raise health.failed(error) from error
        health.worked()

    async def _record_all(self) -> None:
        """Tell a new catalog what is on disk: the budget knows of nothing else, and nothing else is evicted."""
        async with self._recording:
            if self.catalog.knows_all:
                return
            self._recorded.clear()
            audit = self.audit(compare=False)
            cursor: Cursor | None = Cursor()
            while cursor is not None:
                _, cursor = await audit.step(cursor, _HOUSEKEEPING_EVERY_S)
                await self.catalog.flush()
            await self.catalog.note_knows_all()

    def _leave(self) -> None:
        remove_files(self._means.doomed)
        try:
            self._holder.release()
        except OSError as error:
            _log.debug("closing the cache: %s", error)


def _stays(known: NarIndex, index: NarIndex) -> bool:
    return known.voucher is None or index.voucher is not None


def _prepare(places: Places, health: Health) -> tuple[Holder, Catalog, Pins, bool]:
    """Open everything that blocks; OSError, CacheUnusable."""
    holder = Holder.acquire(places)
    if holder.power_cut:
        _log.warning(
            "cache %s: the machine went down while it was in use; what did not reach the disk will be fetched again",
            places.directory,
        )
    places.nars.mkdir(mode=0o700, exist_ok=True)
    places.scratch.mkdir(mode=0o700, exist_ok=True)
    for left in places.scratch.iterdir():
        remove_tree(left)
    return holder, Catalog.open(places.catalog, health), Pins.load(places), offers_nowait(places.scratch)
