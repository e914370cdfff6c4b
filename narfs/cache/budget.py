"""How much must leave the cache, and what. Pure: ``eviction.py`` asks, and does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

INDEX: Final = -1
"""Number of the unit that is index and map of a NAR. It is as recent as the most recent segment, so it goes last."""

_SLACK_SHARE: Final = 64
_SLACK_MAX_BYTES: Final = 256 * 1024 * 1024


class Unit(NamedTuple):
    """What is evicted together: one segment of one NAR, or (``segment`` is INDEX) all that is left of the NAR."""

    nar_hash: bytes
    segment: int
    size: int


class Room(NamedTuple):
    """What the cache holds and may hold, in bytes."""

    used: int
    budget: int
    free: int
    """Left on the disk when everything that is promised has been written."""
    keep_free: int

    def excess(self, incoming: int) -> int:
        """How far ``incoming`` more bytes go beyond budget or floor, whichever is worse; 0 if they fit."""
        return max(0, self.used + incoming - self.budget, self.lack(incoming))

    @property
    def left(self) -> int:
        """How much may come without going beyond either."""
        return max(0, min(self.budget - self.used, self.free - self.keep_free))

    def lack(self, incoming: int) -> int:
        """How far ``incoming`` more bytes go below the floor that is kept free; 0 if they do not."""
        return max(0, incoming + self.keep_free - self.free)

    def permits(self, incoming: int, *, oversize: bool) -> bool:
        """Say whether ``incoming`` may come now. One NAR may exceed the budget (``oversize``); nothing the floor."""
        if self.lack(incoming):
            return False
        return self.used + incoming <= self.budget or (oversize and self.used <= self.budget)

    def slack(self) -> int:
        """Give what to free beyond the need, so that not every chunk written to a full cache is an eviction."""
        return min(self.budget // _SLACK_SHARE, _SLACK_MAX_BYTES)


def choose(oldest_first: Iterable[Unit], wanted: int, pinned: Container[tuple[bytes, int]]) -> list[Unit]:
    """Take units, least recently used first, until they make ``wanted`` bytes; pinned ones stay.

    The INDEX unit of a NAR stays as long as any of its segments is pinned: the caller pins it with them.
    """
    chosen = []
    for unit in oldest_first:
        if wanted <= 0:
            break
        if unit[:2] in pinned:
            continue
        chosen.append(unit)
        wanted -= unit.size
    return chosen
