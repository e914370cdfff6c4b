"""The parts of a blob that can be fetched by themselves: what to ask for, and what to do with the answer.

A blob is *direct* when it is not compressed (BlobOffset is NarOffset), *framed* when its NarIndex has a frame table
that fits it, *solid* otherwise. ``plan`` is pure; ``unpack`` checks every chunk against its digest before anybody sees
it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import trio

from narfs.errors import Corrupt
from narfs.formats.frames import decode_frame
from narfs.offsets import BlobOffset, NarOffset, NarSpan, runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from narfs.formats.frames import Frame
    from narfs.formats.index import NarIndex
    from narfs.formats.narinfo import NarInfo
    from narfs.offsets import ChunkGrid

REQUEST_MAX_BYTES = 8 * 1024 * 1024
"""Longest run that one request asks for: it is held in memory until its chunks are checked."""

_FILE_MAX_BYTES = 8 * 1024 * 1024
"""Largest file that is fetched whole before it was read whole: programs and libraries, of which page faults ask for
most, here and there (84 to 91 % of python3.11, libcrypto and libsqlite3 by B1). A data base is larger."""

Chunks = dict[int, bytes]


class RangeRequest(NamedTuple):
    """One request: these bytes of the blob give these chunks whole."""

    start: BlobOffset
    length: int
    chunks: range
    frames: tuple[Frame, ...]
    """Empty for a direct blob."""

    @property
    def is_smallest(self) -> bool:
        """Whether no part of it could be asked for by itself."""
        return len(self.frames or self.chunks) == 1


def has_ranges(index: NarIndex, narinfo: NarInfo) -> bool:
    """Say whether parts of the blob that ``narinfo`` names can be read by themselves."""
    if narinfo.compression == "none":
        return True
    frames = index.frames
    return (
        frames is not None
        and frames.compression == narinfo.compression
        and narinfo.file_size in (None, frames.blob_size)
    )


def plan(
    index: NarIndex, narinfo: NarInfo, missing: Iterable[int], *, most_bytes: int = REQUEST_MAX_BYTES
) -> list[RangeRequest]:
    """Cover the ``missing`` chunks (ascending) with requests; neighbours are merged up to ``most_bytes`` of NAR."""
    requests: list[RangeRequest] = []
    for run in runs(missing, max(1, most_bytes // index.grid.chunk_bytes)):
        span = NarSpan(index.grid.span(run.start).start, index.grid.span(run.stop - 1).end)
        if narinfo.compression == "none":
            requests.append(RangeRequest(BlobOffset(span.start), span.length, run, ()))
            continue
        if requests and run.start < requests[-1].chunks.stop:
            if run.stop <= requests[-1].chunks.stop:
                continue
            span = NarSpan(index.grid.span(requests[-1].chunks.stop).start, span.end)
        assert index.frames is not None  # noqa: S101 - has_ranges said so
        frames = tuple(index.frames.covering(span))
        start, end = frames[0].blob, frames[-1].blob + frames[-1].blob_length
        requests.append(RangeRequest(start, end - start, _whole_chunks(index, frames), frames))
    return requests


def rest_of_file(grid: ChunkGrid, chunk: int) -> range:
    """Give the chunks that are probably of the same file as ``chunk``, with it; only itself if that is a large file.

    A grid with cuts is that of a sealed blob, in which a full chunk is followed by more of the same file.
    """
    if grid.cuts is None:
        return range(chunk, chunk + 1)
    first, end, most = chunk, chunk + 1, _FILE_MAX_BYTES // grid.chunk_bytes
    while first > 0 and end - first <= most and grid.span(first - 1).length == grid.chunk_bytes:
        first -= 1
    while end < grid.count and end - first <= most and grid.span(end - 1).length == grid.chunk_bytes:
        end += 1
    return range(first, end) if end - first <= most else range(chunk, chunk + 1)


async def unpack(index: NarIndex, request: RangeRequest, data: bytes) -> Chunks:
    """Give the chunks that came for a request, checked; Corrupt if one is not what the index says."""
    return await trio.to_thread.run_sync(_unpack, index, request, data)


def check(index: NarIndex, chunk: int, data: bytes | memoryview) -> None:
    """Compare one chunk with its digest."""
    if hashlib.sha256(data).digest() != bytes(index.digests[32 * chunk : 32 * chunk + 32]):
        span = index.grid.span(chunk)
        raise Corrupt(f"bytes {span.start} to {span.end} of the NAR are not those that were verified before")


def _unpack(index: NarIndex, request: RangeRequest, data: bytes) -> Chunks:
    parts, view = {index.grid.span(request.chunks.start).start: data}, memoryview(data)
    if request.frames and index.frames is not None:
        compression, first = index.frames.compression, request.frames[0].blob
        parts = {
            nar: decode_frame(compression, view[blob - first : blob - first + blob_length], nar_length)
            for blob, blob_length, nar, nar_length in request.frames
        }
    origin, whole = next(iter(parts)), None
    chunks = {}
    for chunk in request.chunks:
        span = index.grid.span(chunk)
        part = parts.get(span.start, b"")
        if len(part) != span.length:  # in a sealed blob a frame is a chunk, and nothing is copied
            whole = whole or b"".join(parts.values())
            part = whole[span.start - origin : span.end - origin]
        check(index, chunk, part)
        chunks[chunk] = part
    return chunks


def _whole_chunks(index: NarIndex, frames: tuple[Frame, ...]) -> range:
    """Give the chunks that lie wholly in ``frames``: a 16 MiB frame brings 64 of them, whichever one was wanted."""
    return index.grid.within(NarSpan(frames[0].nar, NarOffset(frames[-1].nar + frames[-1].nar_length)))
