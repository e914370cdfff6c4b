"""The same NAR from another place: when one lake fails, another may have it, or the same one under a new URL.

A path that was built anew has another NAR, which is none for who reads the old one. Who looks for it next finds it.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from narfs.engine import narinfos
from narfs.engine.means import Described
from narfs.errors import Corrupt, FormatError, NarfsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from narfs.engine.means import Means
    from narfs.formats.narinfo import NarInfo
    from narfs.lake.binary_cache import BinaryCache

_log = logging.getLogger(__name__)

T = TypeVar("T")


async def from_anywhere(
    means: Means,
    described: Described,
    work: Callable[[Described], Awaitable[T]],
    *,
    may_move: Callable[[], bool] = lambda: True,
) -> T:
    """Do ``work`` with the first place of this NAR where it does not fail; raises what the last one failed with."""
    tried: list[Described] = []
    while True:
        try:
            return await work(described)
        except (Unavailable, Corrupt, FormatError) as error:
            tried.append(described)
            other = await _another(means, tried) if may_move() else None
            if other is None:
                raise
            _log.warning("%s; trying %s", error, other.lake.url)
            described = other


async def _another(means: Means, tried: Sequence[Described]) -> Described | None:
    """Find a place that was not tried. Its narinfo needs no signature: the NarHash is the one that was trusted.

    What is kept for everybody (domain ``b""``) comes from stores that are everybody's.
    """
    first, wanted = tried[0], tried[0].narinfo
    anew = False

    def accept(lake: BinaryCache, narinfo: NarInfo) -> bool:
        nonlocal anew
        same = (narinfo.nar_hash, narinfo.nar_size) == (wanted.nar_hash, wanted.nar_size)
        anew = anew or not same
        untried = all((lake, narinfo.url) != (each.lake, each.narinfo.url) for each in tried)
        return same and untried and lake.domain in (b"", first.domain)

    try:
        lake, narinfo = await means.upstreams.narinfo(wanted.path.hash_part, accept)
    except NarfsError:
        if anew:
            with suppress(NarfsError):  # most often of no key that counts
                await narinfos.ask(means, wanted.path.hash_part)
        return None
    return Described(lake, narinfo, origin=first.origin or first.lake)
