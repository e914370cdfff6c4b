"""What the lake wing asks of a transport, and what every transport counts.

A *name* is relative to the lake and was confined by ``StoreUrl.name_of`` or built from a store path's hash part. A
transport answers absence with NotFound only if it is sure that the lake itself is there and readable; everything else
that keeps it from answering is Unavailable or TooSlow. What it gives is not checked against anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from narfs.errors import Corrupt
from narfs.offsets import BlobOffset

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

CACHE_INFO = "nix-cache-info"
"""The object every lake has. That it is readable proves that the lake is there and that the credentials are good."""

FROM_THE_START = BlobOffset(0)

_CONTENT_TYPES = {
    ".narinfo": "text/x-nix-narinfo",
    ".ls": "application/json",
    CACHE_INFO: "text/x-nix-cache-info",
}
"""By the end of the name; everything else is application/x-nix-nar. Nix sends the same."""


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """What one transport did since it was made."""

    requests_total: int = 0
    retries_total: int = 0
    """Attempts beyond the first, for whatever reason."""
    resumes_total: int = 0
    """Retries that went on in the middle of a body."""
    ranges_ignored_total: int = 0
    """Answers that began at byte 0 although a later one was asked for; the bytes before it were thrown away."""
    received_bytes_total: int = 0
    sent_bytes_total: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class TransportCounters:
    """The running counts behind ``TransportStatistics``, field by field."""

    requests: int = 0
    retries: int = 0
    resumes: int = 0
    ranges_ignored: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0

    def snapshot(self, *, in_flight: int) -> TransportStatistics:
        """Freeze the counts."""
        return TransportStatistics(
            requests_total=self.requests,
            retries_total=self.retries,
            resumes_total=self.resumes,
            ranges_ignored_total=self.ranges_ignored,
            received_bytes_total=self.received_bytes,
            sent_bytes_total=self.sent_bytes,
            in_flight=in_flight,
        )


class ExactChunks:
    """The chunks of one attempt at an upload, which must be exactly as many bytes as were announced; else Corrupt."""

    def __init__(self, chunks: AsyncIterable[bytes], size: int, *, what: str) -> None:
        self._given = chunks
        self._chunks = aiter(chunks)
        self._left = size
        self._what = what

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks, None)
        self._left -= len(chunk or b"")
        if self._left < 0 or (chunk is None and self._left):
            raise Corrupt(f"{self._what}: what was to be written is not as long as announced: did it change meanwhile?")
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close the iterator of this attempt, unless it is the caller's own."""
        if self._chunks is not self._given and (close := getattr(self._chunks, "aclose", None)):
            await close()


def content_type(name: str) -> str:
    """Give the Content-Type that an object is uploaded with."""
    return next((kind for end, kind in _CONTENT_TYPES.items() if name.endswith(end)), "application/x-nix-nar")


class Transport(Protocol):
    """One lake's objects by name. Every method is a checkpoint; cancelling one leaves nothing in flight."""

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        """Read a small object whole, without its Content-Encoding; Corrupt if it is longer than ``max_bytes``."""
        ...

    def stream(
        self, name: str, *, start: BlobOffset = FROM_THE_START
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open an object as stored, from byte ``start``; NotFound is raised on entering.

        The iterator gives pieces of up to 1 MiB, the first as soon as anything is there. Broken connections are
        repaired inside; the pieces are of one version of the object or the stream fails with Unavailable.
        """
        ...

    async def read_range(self, name: str, start: BlobOffset, length: int) -> bytes:
        """Read exactly ``length`` bytes from byte ``start`` of an object as stored; Corrupt if it ends before."""
        ...

    async def read_beginning(self, name: str, length: int) -> bytes:
        """Read the first ``length`` bytes of an object as stored; if it has fewer, all of it."""
        ...

    async def put(self, name: str, chunks: AsyncIterable[bytes], size: int) -> None:
        """Write an object of exactly ``size`` bytes, in place of an older one; readers see the old one or the whole.

        ``chunks`` are read from the beginning by every attempt. An iterator is gone after one, so what is larger than a
        piece is not tried again then; it stays the caller's to close. Corrupt if they are not ``size`` bytes.
        """
        ...

    async def put_small(self, objects: Mapping[str, bytes]) -> None:
        """Write objects of a few MiB in all, at the same time, each as ``put`` does; of a failure some may be there."""
        ...

    async def exists(self, name: str) -> bool:
        """Whether the object is there."""
        ...

    async def names(self, ending: str) -> list[str]:
        """Name all objects with this ending that lie directly in the lake; UsageError where nobody can list them."""
        ...

    async def aclose(self) -> None:
        """Let go of what belongs to this transport alone."""
        ...

    def statistics(self) -> TransportStatistics:
        """Tell what was done so far."""
        ...
