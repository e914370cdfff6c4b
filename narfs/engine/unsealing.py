"""Unsealing: how far the sealed index of one NAR was asked for.

It is asked for once, before anything else is, and again only if a place could not be asked and then the NAR was not to
be had either. A narinfo that was kept from an earlier run and tells of no index is asked for again first: its lake may
have been sealed since, and what would come otherwise is a whole NAR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from narfs.engine import narinfos
from narfs.engine.flights import Flight, take_off
from narfs.engine.sealed import find_sealed
from narfs.errors import NarfsError, NotFound, OverQuota, Unavailable, Untrusted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from narfs.engine.means import Described, Means
    from narfs.engine.sealed import Sealed


class Unsealing:
    """Of one NAR; ``take`` is given the index that counts, if there is one, and where its NAR is."""

    def __init__(
        self, means: Means, described: Described, take: Callable[[Described, Sealed], Awaitable[None]]
    ) -> None:
        self._means = means
        self._described = described
        self._take = take
        told_of = described.narinfo.index_name is not None or described.kept or means.index_stores.lakes
        self._wanted = bool(told_of) and len(means.trust.index_keys) > 0
        """Whether there is a place to be asked yet."""
        self._unreached = False
        self._flight: Flight[None] | None = None

    async def wait(self) -> None:
        """Ask if that was not done yet, and wait until it was."""
        if self._wanted:
            if self._flight is None or self._flight.landed:
                self._flight = take_off(self._means.nursery, self._run)
            await self._flight.result()

    def reconsider(self) -> None:
        """Ask those places again that could not be asked: the NAR was not to be had."""
        self._wanted = self._unreached

    async def _run(self) -> None:
        self._unreached = again = False
        try:
            if self._described.kept and self._described.narinfo.index_name is None:
                await self._describe_again()
            sealed = await find_sealed(self._means, self._described)
            if sealed is not None:
                await self._take(self._described, sealed)
        except Unavailable:
            self._unreached = True
        except OverQuota:
            again = True
            raise
        finally:
            self._wanted = again  # not before: whoever comes meanwhile waits for this

    async def _describe_again(self) -> None:
        known = self._described.narinfo
        try:
            told = await narinfos.ask(self._means, known.path.hash_part)
        except (NotFound, Untrusted):
            return
        except NarfsError:
            self._unreached = True
            return
        now = told.narinfo
        if (now.path, told.key, now.nar_size) == (known.path, self._described.key, known.nar_size):
            self._described = told
