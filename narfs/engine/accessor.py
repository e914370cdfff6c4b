"""NarAccessor: the tree of one NAR, and read(NarOffset, length).

The index of the NAR comes out of the cache, out of a lake if it is sealed there by a key that counts (``unsealing``),
or out of the first pass. From then on its bytes are the ``contents``'s to give; before, under progressive, the draft of
the pass that is under way has them.

What failed is not tried again for a while (``backoff``). Under progressive a mismatch is for ever, because somebody may
have read the wrong bytes.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from narfs.engine.backoff import Backoff
from narfs.engine.contents import Contents
from narfs.engine.elsewhere import from_anywhere
from narfs.engine.flights import Flight, take_off
from narfs.engine.pages import Pages
from narfs.engine.passes import Pass
from narfs.engine.peek import peek
from narfs.engine.unsealing import Unsealing
from narfs.errors import CacheUnusable, Corrupt, FormatError, NarfsError, Unavailable
from narfs.formats.growing import PENDING, Pending
from narfs.formats.listing import Kind
from narfs.formats.nar import Root
from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from narfs.cache.chunk_cache import CachedNar
    from narfs.engine.ahead.governor import Turn
    from narfs.engine.means import Described, Means
    from narfs.engine.sealed import Sealed
    from narfs.formats.growing import GrowingListing
    from narfs.formats.index import NarIndex
    from narfs.formats.listing import NarListing, Node
    from narfs.formats.narinfo import NarInfo

_log = logging.getLogger(__name__)

T = TypeVar("T")

_AT_ONCE_BYTES = 256 * 1024
"""What is asked for without waiting for a turn: 2 ms of 1 Gbit/s."""
_CLAIM_BELIEVED_S = 2.0
"""A mount lets the kernel believe a claim for one second."""
_TRIES = 4
"""Rounds of one read: chunks can be evicted between fetch and read, but not for ever."""


class NarAccessor:
    """One NAR. Made by ``Store.accessor``, one for each key and NarSize; lives as long as the Store."""

    def __init__(self, means: Means, described: Described, cached: CachedNar | None) -> None:
        self.key = described.key
        """What it is kept under, and who it is: its NarHash, or that in a domain of its own."""
        self.nar_size = described.narinfo.nar_size
        self.broken_passes = 0
        """Passes that were seen and did not end well: what was learned of nodes during one is void."""
        self._means = means
        self._described = described
        self._root: Root | None = None
        self._contents: Contents | None = None
        self._pass: Pass | None = None
        self._flight: Flight[None] | None = None
        self._unsealing = Unsealing(means, described, self._take_sealed)
        self._peeking: Flight[Root] | None = None
        self._trouble = Backoff()
        if cached is not None:
            self._take(cached.index, cached)
        elif means.cache is not None and (kept := means.cache.catalog.root(self.key)) is not None:
            self._root = Root(Kind(kept.kind), kept.executable, kept.size)

    # What is known without waiting.

    @property
    def verified(self) -> bool:
        """Whether the NAR or its index was compared with what is trusted; then tree and root stay what they are."""
        return self._contents is not None

    @property
    def listing(self) -> NarListing | None:
        """The whole tree, if it may be shown now."""
        return None if self._contents is None else self._contents.index.listing

    @property
    def index(self) -> NarIndex | None:
        """What is known of the NAR, if it may be relied on."""
        return None if self._contents is None else self._contents.index

    @property
    def narinfo(self) -> NarInfo:
        """Of the blob that is read."""
        return self._described.narinfo

    @property
    def root(self) -> Root | None:
        """Kind and size of the root node, if anything is known of it; a claim until ``verified``."""
        if self._root is None and self._pass is not None:
            self._root = self._pass.root
        return self._root

    def read_nowait(self, start: NarOffset, length: int) -> bytes | None:
        """Give ``length`` bytes if the cache has them checked and in memory, else None. Not a checkpoint."""
        return None if self._contents is None else self._contents.read_nowait(start, length)

    # What may have to be waited for. All raise Unavailable, Corrupt, FormatError, Closing; deadlines are the caller's.

    async def unseal(self) -> bool:
        """Ask for a sealed index if that was not done yet; say whether there is an index now."""
        if self._contents is None:
            await self._unsealing.wait()
        return self._contents is not None

    async def peek(self) -> Root:
        """Give kind and size of the root node from the first kilobytes of the NAR: a claim until ``verified``."""
        while (root := self.root) is None:
            if self._pass is not None:
                await self._pass.moved_on.wait()
                continue
            self._trouble.require()
            if await self.unseal():
                continue
            if self._peeking is None or self._peeking.landed:
                self._peeking = take_off(self._means.nursery, self._peek)
            await self._peeking.result()
        return root

    async def settle(self) -> None:
        """Wait until the NAR was compared with its NarHash, or an index key vouches for what will be read of it."""
        while self._contents is None:
            self._trouble.require()
            if not await self.unseal():
                with self._means.governor.waiting():
                    await self._pass_over()

    async def child(self, directory: int, name: bytes) -> int | None:
        """Give the id of the child ``name``, or None if there is none."""
        return await self._ask(directory, lambda tree: tree.child(directory, name))

    async def children(self, directory: int) -> Sequence[int]:
        """Give the ids of the children, in the order of their names."""
        return await self._ask(directory, lambda tree: tree.children(directory))

    async def node(self, node: int) -> Node:
        """Give a node that the caller knows to exist."""
        return await self._ask(node, lambda tree: tree.node(node))

    async def name(self, node: int) -> bytes:
        """Give the name of a node that the caller knows to exist."""
        return await self._ask(node, lambda tree: tree.name(node))

    async def target(self, node: int) -> bytes:
        """Give the target of a symlink that the caller knows to exist."""
        return await self._ask(node, lambda tree: tree.target(node))

    async def read(self, start: NarOffset, length: int) -> bytes:
        """Give exactly ``length`` bytes of the NAR."""
        for _ in range(_TRIES):
            while self._contents is None:
                passing = await self._pass_to_read()
                if passing is not None and (data := await self._read_draft(passing, start, length)) is not None:
                    return data
            if (data := await self._contents.read(start, length)) is not None:
                return data
        raise Unavailable("the cache is too small: chunks are evicted before they are read; raise --cache-size")

    # Ahead of readers.

    @property
    def pass_bytes(self) -> int:
        """What a pass over the whole NAR fetches."""
        return self._described.narinfo.file_size or self.nar_size

    async def missing_bytes(self) -> int:
        """Say how much of the NAR is not in the cache; what keeps the index away."""
        if not await self.unseal() or self._contents is None:
            return self.nar_size
        return await self._contents.missing_bytes()

    async def contents_for(self, span: NarSpan) -> Contents | None:
        """Give the contents, ready to bring a span of them into the cache; None if that takes a pass.

        CacheUnusable; what keeps the index away.
        """
        if not await self.unseal() or self._contents is None or not await self._contents.ready_for(span):
            return None
        return self._contents

    def is_here(self, start: NarOffset, length: int) -> bool:
        """Whether the cache has these bytes, as far as is known without a look at it. Not a checkpoint."""
        return self._contents is not None and not self._contents.lacks(NarSpan(start, NarOffset(start + length)))

    async def lacks(self, span: NarSpan) -> bool:
        """Say whether something of a span is not in the cache, but can be had by itself; what keeps the index away."""
        contents = await self.contents_for(span)
        return contents is not None and contents.lacks(span)

    async def turn_ahead(self, *, at_once: bool = False, trying: bool = False) -> Turn:
        """Wait until the lake may be asked for something that nobody waits for; not at all, if that is ``at_once``.

        ``trying``: nor while it is not known how much the way to the lake holds.
        """
        lake = self._described.lake if self._contents is None else self._contents.lake
        governor, turn = self._means.governor, None
        if at_once or (trying and not governor.pace(lake).known):
            turn = governor.turn_nowait(lake, _AT_ONCE_BYTES, starting=at_once)
        return turn or await governor.turn(lake)

    async def look(self, start: NarOffset, length: int) -> bytes:
        """Give bytes that were brought, for narfs itself; Unavailable if they are gone again."""
        data = None if self._contents is None else await self._contents.look(start, length)
        if data is None:
            raise Unavailable("what was fetched ahead is not in the cache")
        return data

    async def pass_ahead(self) -> None:
        """Let the whole NAR pass, for nobody who waits."""
        await self._pass_over()

    # The first pass.

    async def _ask(self, node: int, question: Callable[[NarListing | GrowingListing], T | Pending]) -> T:
        """Ask the tree about a node; under progressive the tree so far, again and again until it knows."""
        while True:
            if self._contents is not None:
                answer = question(self._contents.index.listing)
            elif (passing := await self._pass_to_read()) is None or passing.growing is None:
                continue
            elif node < len(passing.growing):
                answer = question(passing.growing)
            else:
                answer = PENDING
            if not isinstance(answer, Pending):
                return answer
            if self._pass is not None:
                await self._pass.moved_on.wait()

    async def _pass_to_read(self) -> Pass | None:
        """Give the pass under way if it may be read already; else wait until it has moved on, and give None."""
        self._trouble.require()
        if await self.unseal():
            return None
        passing, flight = self._pass_under_way()
        if passing.progressive and not flight.landed:
            if passing.growing is None:
                await passing.moved_on.wait()
            return passing
        with self._means.governor.waiting():
            await flight.result()
        return None

    async def _read_draft(self, passing: Pass, start: NarOffset, length: int) -> bytes | None:
        while passing is self._pass:
            moved_on = passing.moved_on
            if passing.draft is not None and passing.passed >= start + length:
                with suppress(CacheUnusable):  # the pass meets it too, and goes on without a cache
                    return await passing.draft.read(start, length)
            await moved_on.wait()
        return None

    def _pass_under_way(self) -> tuple[Pass, Flight[None]]:
        """Give the pass under way; begin one if there is none."""
        if self._pass is None or self._flight is None:
            self._pass = Pass(self._means, self._described)
            self._flight = take_off(self._means.nursery, partial(self._run, self._pass))
        return self._pass, self._flight

    async def _pass_over(self) -> None:
        """Let the whole NAR pass, unless that failed a moment ago."""
        self._trouble.require()
        await self._pass_under_way()[1].result()

    async def _run(self, passing: Pass) -> None:
        try:
            index, cached = await passing.run()
            self._agree(index)
            await self._outlive_claim(index.root)
        except NarfsError as error:
            self.broken_passes += passing.seen
            poisoned = passing.seen and isinstance(error, Corrupt | FormatError)
            self._trouble.failed(error, for_ever=poisoned)
            self._unsealing.reconsider()
            raise
        finally:
            self._pass = None
            passing.wake()
        self._trouble.worked()
        self._described = passing.described
        self._take(index, cached)

    def _take(self, index: NarIndex, cached: CachedNar | None, pages: Pages | None = None) -> Contents:
        self._root = index.root
        self._contents = Contents(self._means, self._described, index, cached, pages=pages, begin_pass=self._pass_over)
        return self._contents

    async def _take_sealed(self, described: Described, sealed: Sealed) -> None:
        index = sealed.paged.index
        await self._outlive_claim(index.root)
        self._described = described
        if sealed.paged.unfilled:
            self._take(index, None, Pages(self._means, sealed))
        else:
            self._take(index, None).keep_soon()

    def _agree(self, index: NarIndex) -> None:
        """Refuse a NAR that has another tree than its sealed index said: the kernel knows that one for ever."""
        if self._contents is not None and self._contents.index.listing != index.listing:
            raise Corrupt("the NAR has another tree than its sealed index says, whose key should not be trusted")

    async def _outlive_claim(self, root: Root) -> None:
        """If the kernel was told something else of the root node, show nothing below it until that was forgotten."""
        claimed, self._root = self._root, root
        if claimed not in (None, root):
            _log.warning(
                "%s: the lake first claimed %s of its root node, it is %s",
                self._described.narinfo.path.base_name,
                claimed,
                root,
            )
            self._keep_root(root)
            await trio.sleep(_CLAIM_BELIEVED_S)

    # The first kilobytes.

    async def _peek(self) -> Root:
        self._means.counters.peeks += 1
        try:
            root = await from_anywhere(self._means, self._described, partial(peek, beginnings=self._means.beginnings))
        except NarfsError as error:
            self._trouble.failed(error)
            raise
        self._trouble.worked()
        if self._root is None:  # else a pass was faster, and knows better
            self._root = root
            self._keep_root(root)
        return self._root

    def _keep_root(self, root: Root) -> None:
        if self._means.cache is not None:
            self._means.cache.catalog.keep_root(self.key, root.kind, executable=root.executable, size=root.size)
