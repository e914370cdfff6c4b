"""Draft: a NAR that is still passing. Another process writes its file from 0 to nar_size; readers follow.

It lives in ``scratch``: what a killed process leaves there is removed when the cache is next opened. Its whole size
counts as used from the beginning, so that two drafts do not both take the last free gigabyte.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from narfs.cache.disk import Descriptor
from narfs.errors import CacheUnusable

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from narfs.cache.cached_nar import CachedNar
    from narfs.cache.chunk_cache import ChunkCache
    from narfs.cache.means import Means
    from narfs.formats.index import NarIndex
    from narfs.offsets import NarOffset


class Draft:
    """An empty file at ``path`` to be filled. Ends with ``commit`` or ``discard``; leaving ``with`` discards."""

    def __init__(self, cache: ChunkCache, means: Means, nar_hash: bytes, nar_size: int, key: bytes) -> None:
        self.nar_hash = nar_hash
        self.nar_size = nar_size
        self.key = key
        self.path: Path = means.places.new_scratch(key)
        self._cache = cache
        self._means = means
        self._file: Descriptor | None = Descriptor(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        means.drafts.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.discard()

    def read_nowait(self, start: NarOffset, length: int) -> bytes | None:
        """Give bytes that the caller knows to have been written, if they are in memory. Not a checkpoint."""
        if self._file is None or self._means.scratch is None:
            return None
        return self._file.read_nowait(start, length, self._means.scratch)

    async def read(self, start: NarOffset, length: int) -> bytes:
        """Give bytes that the caller knows to have been written; CacheUnusable if they cannot be read."""
        if self._file is None:
            raise CacheUnusable(f"{self.path.name} is no longer passing")
        try:
            data = await trio.to_thread.run_sync(
                self._file.read, start, length, limiter=self._means.threads, abandon_on_cancel=True
            )
        except OSError as error:
            raise self._means.health.failed(error) from error
        if len(data) != length:
            raise CacheUnusable(f"{self.path.name} has {len(data)} of the {length} bytes expected at {start}")
        return data

    @property
    def file(self) -> Descriptor:
        """Give the file itself, for whoever fills it; CacheUnusable."""
        if self._file is None:
            raise CacheUnusable(f"{self.path.name} is no longer passing")
        return self._file

    async def commit(self, index: NarIndex, *, random_access: bool) -> CachedNar:
        """Make it a NAR of the cache, complete; the caller has compared it with its NarHash. CacheUnusable.

        ``random_access``: parts of its blob can be fetched by themselves, so parts of it may be evicted by themselves.
        Ends the draft in any case. A CachedNar of the same NAR that somebody still holds is retired.
        """
        try:
            return await self._cache.commit_draft(self, index, random_access=random_access)
        finally:
            self.discard()

    def failed(self, cause: object) -> CacheUnusable:
        """Note that whoever fills the file could not write to it; gives the error to raise."""
        return self._means.health.failed(cause)

    def discard(self) -> None:
        """Give up; does nothing after ``commit``. Does not wait: the file is removed soon."""
        if self._file is not None:
            self._file = None
            self._means.drafts.discard(self)
            self._means.doomed.append(self.path)

    def written_bytes(self) -> int:
        """Tell what it takes of the disk so far."""
        return 0 if self._file is None else self._file.allocated_bytes()

    def is_complete(self) -> bool:
        """Whether its file is open and has its full size."""
        return self._file is not None and os.fstat(self._file.fd).st_size == self.nar_size
