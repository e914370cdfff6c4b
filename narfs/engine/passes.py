"""A Pass: one blob streamed once, through a worker, into the cache; and what may be known of it before it ends.

Rule 1: under strict nothing of a pass is shown but its root's kind and size; under progressive the tree is, growing.
Rule 2: a pass is served by one lake. Under strict another lake with the same NarHash takes over from the beginning
when it fails; under progressive it does not, because bytes of the first one may have been seen.
Rule 3: a cache that cannot take the NAR does not fail the pass: it begins again without one, and the index remains. If
the NAR was compared before the cache failed, the index is all that is needed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from narfs.engine.elsewhere import from_anywhere
from narfs.engine.trust import Verify
from narfs.engine.wire import Order
from narfs.errors import CacheUnusable, Corrupt, FormatError, NarfsError, Unavailable
from narfs.formats.growing import GrowingListing
from narfs.formats.index import NarIndex
from narfs.offsets import BlobOffset

if TYPE_CHECKING:
    from narfs.cache.chunk_cache import CachedNar, Draft
    from narfs.cache.disk import Descriptor
    from narfs.engine.means import Described, Means
    from narfs.formats.nar import Root

_log = logging.getLogger(__name__)


class Pass:
    """One pass over the NAR that ``described`` names, whichever lake serves it. ``run`` does it, once."""

    def __init__(self, means: Means, described: Described) -> None:
        self._means = means
        self.described = described
        """Where the NAR comes from."""
        self.moved_on = trio.Event()
        """Set when more of the NAR has passed than now, or the pass has ended. Take it before a look, then wait."""
        self.progressive = means.trust.verify is Verify.PROGRESSIVE
        self.root: Root | None = None
        self.passed = 0
        """Bytes of the NAR that are written to the draft."""
        self.growing: GrowingListing | None = None
        """The tree so far; only under progressive."""
        self.seen = False
        """Whether somebody may have seen some of it (rule 2)."""
        self.draft: Draft | None = None

    async def run(self) -> tuple[NarIndex, CachedNar | None]:
        """Stream, check and keep the NAR; raise what stopped it."""
        self._means.counters.passes_begun += 1
        path = self.described.narinfo.path
        _log.debug("pass started: %s", path.base_name)
        try:
            result = await from_anywhere(self._means, self.described, self._run_on, may_move=lambda: not self.seen)
        except NarfsError as error:
            self._means.counters.passes_failed += 1
            if isinstance(error, (Corrupt, FormatError)):
                self._means.counters.corrupt += 1
                _log.error("%s: %s", path.base_name, error)  # whoever asked or not: a lake lies, or rots
                error.told = True
            else:
                _log.debug("pass failed: %s: %s", path.base_name, error)
            raise
        self._means.counters.passes_verified += 1
        _log.debug("pass complete: %s", path.base_name)
        return result

    def on_root(self, root: Root) -> None:
        """Take what the NAR claims its root node to be."""
        self.root = root
        self.wake()

    def on_passed(self, nar_bytes: int, delta: bytes) -> None:
        """Take how far the NAR is written and what its tree grew by."""
        self.passed = nar_bytes
        if self.growing is not None:
            self.growing.apply(delta)
            self.seen = True
        self.wake()

    def wake(self) -> None:
        """Let all who wait for progress look again; whoever runs the pass does so at its end."""
        self.moved_on.set()
        self.moved_on = trio.Event()

    async def _run_on(self, described: Described) -> tuple[NarIndex, CachedNar | None]:
        self.described = described
        narinfo, cache = described.narinfo, self._means.cache
        direct = narinfo.compression == "none"
        index = None
        try:
            if cache is not None:
                with await cache.begin(narinfo.nar_hash, narinfo.nar_size, described.domain) as draft:
                    index = await self._stream_into(draft, described)
                    return index, await draft.commit(index, random_access=direct)
        except CacheUnusable as error:
            if self.seen and index is None:  # rule 2: what comes now may be another tree
                raise Unavailable(f"{narinfo.path.base_name}: {error}") from error
            _log.warning("%s: serving uncached: %s", narinfo.path.base_name, error)
        if index is None:
            index = await self._stream(described, None)
        try:
            if cache is not None:
                return index, await cache.keep_index(index, described.domain, random_access=direct)
        except CacheUnusable as error:
            _log.debug("%s: index not kept: %s", narinfo.path.base_name, error)
        return index, None

    async def _stream_into(self, draft: Draft, described: Described) -> NarIndex:
        self.draft = draft
        self.growing = GrowingListing() if self.progressive else None
        try:
            return await self._stream(described, draft.file)
        except CacheUnusable as error:
            raise draft.failed(error) from error
        finally:
            self.draft = self.growing = None
            self.passed = 0

    async def _stream(self, described: Described, file: Descriptor | None) -> NarIndex:
        # Not under progressive: a beginning of another version than the rest would be a mismatch, and poison the path.
        if not self.progressive and (beginning := self._means.beginnings.take(described)):
            try:
                return await self._stream_behind(beginning, described, file)
            except (Corrupt, FormatError) as error:
                _log.debug("%s: once more from its first byte: %s", described.narinfo.path.base_name, error)
        return await self._stream_behind(b"", described, file)

    async def _stream_behind(self, beginning: bytes, described: Described, file: Descriptor | None) -> NarIndex:
        """Pass a blob of which the first bytes are here."""
        narinfo = described.narinfo
        kept = file is not None
        order = Order(narinfo.compression, narinfo.nar_hash.hex(), narinfo.nar_size, kept, self.progressive)
        async with self._means.workers.begin(order, self, file) as ticket:
            if beginning:
                await ticket.send(beginning)
            if len(beginning) != narinfo.file_size:
                async with described.lake.open_blob(narinfo, BlobOffset(len(beginning))) as pieces:
                    async for piece in pieces:
                        await ticket.send(piece)
            encoded = await ticket.finish()
        return await trio.to_thread.run_sync(NarIndex.from_bytes, encoded)  # 8 ms of sha256 for 200 k entries
