"""Evictor: makes room. ``budget`` decides, this does it.

For each NAR, in this order: ask that nothing of it is pinned, and forget the segments on the loop (no await between);
in a thread withdraw the bits on disk, then punch; then let the catalog forget. Until then nobody writes to those
segments. Killed anywhere in between, what is left is a claim without data, which fails its check, or data without a
claim, which is counted and goes with the rest of its NAR.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from narfs.cache.budget import INDEX, Room
from narfs.cache.disk import free_bytes
from narfs.cache.nar_file import NarFile, remove
from narfs.errors import CacheUnusable, FormatError

if TYPE_CHECKING:
    from narfs.cache.budget import Unit
    from narfs.cache.means import Means
    from narfs.cache.pins import Pins


class _Staying:
    """What must not be evicted: units that are being read, NARs that are pinned."""

    def __init__(self, units: set[tuple[bytes, int]], pins: Pins) -> None:
        self._units = units
        self._pins = pins

    def __contains__(self, unit: object) -> bool:
        return unit in self._units or (isinstance(unit, tuple) and unit[0] in self._pins)


_AT_ONCE_BYTES: Final = 256 * 1024 * 1024
"""Evicted between two looks at the clock: 64 segments at 100 µs."""


class Evictor:
    """Keeps one cache within ``budget_bytes`` and its disk above ``keep_free_bytes``."""

    def __init__(self, means: Means, budget_bytes: int, keep_free_bytes: int) -> None:
        self._means = means
        self._budget_bytes = budget_bytes
        self._keep_free_bytes = keep_free_bytes
        self.turn = trio.Lock()
        """Held while files are evicted; whoever replaces a NAR's files takes it too."""

    def room(self) -> Room:
        """Look at the room there is now; OSError. 3 µs and 1 for each draft."""
        drafts = self._means.drafts
        drafted = sum(draft.nar_size for draft in drafts)
        promised = sum(max(0, draft.nar_size - draft.written_bytes()) for draft in drafts)
        return Room(
            used=self._means.catalog.used_bytes + drafted,
            budget=self._budget_bytes,
            free=free_bytes(self._means.places.directory) - promised,
            keep_free=self._keep_free_bytes,
        )

    def could_take(self, incoming: int) -> bool:
        """Say whether ``incoming`` bytes would leave the floor free if all that may be were evicted; OSError."""
        return self.room().lack(incoming) <= max(0, self._means.catalog.used_bytes - self._means.pins.nar_bytes)

    async def make_room(self, incoming: int, *, oversize: bool = False) -> None:
        """Evict until ``incoming`` more bytes may come: CacheUnusable if that cannot be.

        When it returns there is room *now*: the caller takes it before its next await. ``oversize``: a NAR that may
        exceed the budget by itself.
        """
        try:
            if not self.room().excess(incoming):
                return
            async with self.turn:
                # A disk that is full to the brim refuses this one; once something is punched the next must work.
                with suppress(CacheUnusable):
                    await self._means.catalog.flush()
                while excess := self.room().excess(incoming):
                    if not await self._evict_some(excess + self.room().slack()):
                        break
                if not self.room().permits(incoming, oversize=oversize):
                    raise CacheUnusable(
                        f"cache {self._means.places.directory}: no room for {incoming} bytes:"
                        " everything is in use, or others have filled the disk"
                    )
        except OSError as error:
            raise self._means.health.failed(error) from error

    async def make_room_for_chunk(self, key: bytes, segment: int, incoming: int) -> None:
        """Do what ``make_room`` does, for bytes of one segment: if that is being punched, wait until it was."""
        await self.make_room(incoming)
        while segment in self._means.changing.get(key, ()):
            async with self.turn:
                pass
            await self.make_room(incoming)

    async def keep_floor(self) -> None:
        """Evict what goes below the floor because others have filled the disk; the budget may stay exceeded."""
        if self.room().lack(0):
            await self.make_room(0, oversize=True)

    async def shrink(self, to_bytes: int, seconds: float) -> bool:
        """Evict until ``to_bytes`` are left, for about ``seconds``; say whether that is all. CacheUnusable."""
        until = trio.current_time() + seconds
        async with self.turn:
            await self._means.catalog.flush()
            while (excess := self._means.catalog.used_bytes - to_bytes) > 0:
                if not await self._evict_some(min(excess, _AT_ONCE_BYTES)):
                    return True
                if trio.current_time() >= until:
                    return False
        return True

    async def _evict_some(self, wanted: int) -> bool:
        """Evict ``wanted`` bytes or a little more; say whether there was anything. Under the ``turn``."""
        pinned = {unit for nar in self._means.live.values() for unit in nar.pinned_units()}
        units = await self._means.catalog.choose(wanted, _Staying(pinned, self._means.pins))
        if units:
            await self._evict(units)
            await self._means.catalog.flush()
        return bool(units)

    async def _evict(self, units: list[Unit]) -> None:
        by_nar: dict[bytes, dict[int, int]] = {}
        for unit in units:
            by_nar.setdefault(unit.nar_hash, {})[unit.segment] = unit.size
        for key, sizes in by_nar.items():
            if self._forget(key, set(sizes)):
                await self._evict_files(key, set(sizes))
                self._means.counters.evicted_bytes += sum(sizes.values())

    def _forget(self, key: bytes, segments: set[int]) -> bool:
        """Forget segments on the loop unless one was pinned since the choice; INDEX means the whole NAR."""
        live = self._means.live.get(key)
        if live is None:
            return True
        if any(segment in segments for _, segment in live.pinned_units()):
            return False
        if INDEX in segments:
            live.retire()
        else:
            live.forget(segments)
        return True

    async def _evict_files(self, key: bytes, segments: set[int]) -> None:
        self._means.changing[key] = segments
        self._means.counters.files_changed += 1
        try:
            whole = await trio.to_thread.run_sync(self._evict_in_thread, key, segments)
        finally:
            del self._means.changing[key]
        if whole:
            if (live := self._means.live.get(key)) is not None:
                live.retire()
            self._means.catalog.forget_nar(key)
        else:
            for segment in segments:
                self._means.catalog.forget_unit(key, segment)

    def _evict_in_thread(self, key: bytes, segments: set[int]) -> bool:
        """Evict; give whether the whole NAR went: as asked, or because segments of it could not be punched."""
        places = self._means.places
        if INDEX not in segments:
            try:
                file, _ = NarFile.open(places.names(key), key)
                file.evict(segments)
            except (OSError, FormatError):
                pass
            else:
                return False
        remove(places, key)
        return True
