"""Fresh: what came ahead of readers a moment ago, in memory until it was read.

Who follows at once has it from here before the cache has written it, and without a look at the disk: 128 KiB take 15 µs
instead of 38 (B5). What has to make room, or is not read soon, he has from the cache. All of it was checked.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Hashable

    from narfs.engine.ranges import Chunks
    from narfs.offsets import ChunkGrid

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of all NARs: more than one reader is ahead of himself by at 1 Gbit/s (12 MiB of what packs to a third)."""

STALE_S: Final = 10.0
"""After which nobody comes who followed."""


class Fresh:
    """Chunks of all NARs; each NAR has an ``owner``."""

    def __init__(self) -> None:
        self._chunks: OrderedDict[tuple[Hashable, int], tuple[float, bytes]] = OrderedDict()
        """With when they came, the oldest first."""
        self._held: Counter[Hashable] = Counter()
        """Chunks of each owner who has any."""
        self._held_bytes = 0
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._chunks)

    def holds(self, owner: Hashable) -> bool:
        """Whether something of an owner is here. Each read of what is cached asks."""
        return owner in self._held

    def put(self, owner: Hashable, chunks: Chunks, nursery: trio.Nursery) -> None:
        """Take chunks that have just come; the oldest make room. In the nursery they are forgotten after a while."""
        now = trio.current_time()
        for chunk, data in chunks.items():
            self.drop(owner, chunk)
            self._chunks[owner, chunk] = now, data
            self._held[owner] += 1
            self._held_bytes += len(data)
        while self._held_bytes > MOST_BYTES:
            self.drop(*next(iter(self._chunks)))
        if self._chunks and not self._sweeping:
            self._sweeping = True
            nursery.start_soon(self._sweep)

    async def _sweep(self) -> None:
        """Forget what is not read soon, as long as there is anything; all at once, if this is cancelled."""
        try:
            while self._chunks:
                key, (came, _) = next(iter(self._chunks.items()))
                if came + STALE_S > trio.current_time():
                    await trio.sleep_until(came + STALE_S)
                else:
                    self.drop(*key)
        finally:
            self._sweeping = False
            self._chunks.clear()
            self._held.clear()
            self._held_bytes = 0

    def read(self, owner: Hashable, grid: ChunkGrid, start: int, length: int) -> bytes | None:
        """Give ``length`` bytes from ``start`` if all are here. Not a checkpoint."""
        if owner not in self._held:
            return None
        parts = []
        for chunk in grid.covering(start, length):
            found = self._chunks.get((owner, chunk))
            if found is None:
                return None
            data = found[1]
            begin = grid.span(chunk).start
            parts.append(data[max(start - begin, 0) : start + length - begin])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def drop(self, owner: Hashable, chunk: int) -> None:
        """Forget a chunk, if it is here."""
        if (found := self._chunks.pop((owner, chunk), None)) is None:
            return
        self._held_bytes -= len(found[1])
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
