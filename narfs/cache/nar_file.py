"""NarFile: contents and presence map of one NAR on disk. Everything here blocks."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.cache.disk import Descriptor, replace_file
from narfs.cache.layout import ABSENT, PRESENT, Layout
from narfs.cache.zeros import Zeros
from narfs.errors import FormatError
from narfs.formats.index import NarIndex
from narfs.offsets import runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from narfs.cache.places import Names, Places

_DIGEST_BYTES: Final = 32
_CLAIMS: Final = bytes(PRESENT if byte == PRESENT else ABSENT for byte in range(256))


class Found(NamedTuple):
    """What came of a read: the bytes, if all are there and good; and the verdict on each chunk that was compared."""

    data: bytes | None
    good: list[int]
    bad: list[int]


@dataclass(frozen=True, slots=True)
class Loaded:
    """One NAR, as it was found on disk."""

    index: NarIndex
    file: NarFile
    states: bytearray
    allocated_bytes: int
    """What contents, map, index and part take on disk."""

    def sizes(self) -> dict[int, int]:
        """Give the bytes that are claimed of its segments."""
        return self.file.layout.bytes_by_segment(self.states)


class NarFile:
    """The descriptors of one NAR; they are closed when the last reference to this goes."""

    def __init__(self, layout: Layout, contents: Descriptor, presence: Descriptor) -> None:
        self.layout = layout
        self.contents = contents
        self._map = presence
        self._zeros = Zeros(layout.grid.nar_size)

    @classmethod
    def open(cls, names: Names, key: bytes) -> tuple[NarFile, bytearray]:
        """Open what is there, and give the state of each chunk too: OSError, FormatError."""
        presence = _open_to_write(names.map_file)
        data = presence.read(0, os.fstat(presence.fd).st_size)
        layout = Layout.from_bytes(data)
        if layout.key != key:
            raise _damaged("map", f"key {key.hex()}", layout.key.hex())
        if len(data) != layout.map_bytes:
            raise _damaged("map", f"{layout.map_bytes} bytes", str(len(data)))
        contents = _open_to_write(names.contents_file)
        size = os.fstat(contents.fd).st_size
        if size != layout.grid.nar_size:
            raise _damaged("contents", f"{layout.grid.nar_size} bytes", str(size))
        return cls(layout, contents, presence), bytearray(data[layout.header_bytes :].translate(_CLAIMS))

    def read_nowait(self, start: int, length: int, scratch: memoryview) -> bytes | None:
        """Give bytes of chunks that were checked, if they are in memory and none of them is doubtful."""
        begin, end = self._zeros.around(start, length)
        buffer = None if end < start + length else self.contents.fill_nowait(begin, end - begin, scratch)
        if buffer is None or self._zeros.doubtful(buffer, begin):
            return None
        return bytes(buffer[start - begin : start - begin + length])

    def read(self, start: int, length: int, unchecked: Collection[int], digests: bytes | memoryview) -> Found:
        """Read a span; if some of its chunks are ``unchecked``, or doubtful, all are compared with their digests.

        Bad ones become absent.
        """
        if not unchecked:
            begin, end = self._zeros.around(start, length)
            data = self.contents.read(begin, end - begin)
            if len(data) != end - begin:
                return Found(None, [], [])
            if not self._zeros.doubtful(data, begin):
                return Found(data[start - begin : start - begin + length], [], [])
        found = Found(None, [], [])
        pieces = []
        grid = self.layout.grid
        for chunk in grid.covering(start, length):
            span = grid.span(chunk)
            data = self._compare(chunk, digests, found)
            pieces.append(data[max(start, span.start) - span.start : min(start + length, span.end) - span.start])
        data = b"".join(pieces)
        return found if found.bad or len(data) != length else found._replace(data=data)

    def check(self, chunks: Iterable[int], digests: bytes | memoryview) -> Found:
        """Compare chunks with their digests; bad ones become absent."""
        found = Found(None, [], [])
        for chunk in chunks:
            self._compare(chunk, digests, found)
        return found

    def _compare(self, chunk: int, digests: bytes | memoryview, found: Found) -> bytes:
        span = self.layout.grid.span(chunk)
        data = self.contents.read(span.start, span.length)
        at = chunk * _DIGEST_BYTES
        if hashlib.sha256(data).digest() == digests[at : at + _DIGEST_BYTES]:
            found.good.append(chunk)
            self._zeros.note(data, span.start)
        else:
            found.bad.append(chunk)
            self.clear(range(chunk, chunk + 1))
        return data

    def write_chunks(self, chunks: Mapping[int, bytes | memoryview]) -> None:
        """Write chunks (ascending), first the data, then the bits that claim it; neighbours with one call."""
        for run in runs(chunks):
            start = self.layout.grid.span(run.start).start
            self.contents.write_all(start, [chunks[chunk] for chunk in run])
            for chunk in run:
                self._zeros.note(chunks[chunk], self.layout.grid.span(chunk).start)
            self._map.write(self.layout.header_bytes + run.start, bytes([PRESENT]) * len(run))

    def clear(self, chunks: range) -> None:
        """Withdraw the claim to ``chunks``."""
        self._map.write(self.layout.header_bytes + chunks.start, bytes(len(chunks)))

    def clear_strange(self) -> int:
        """Withdraw claims of a kind that nobody makes; says how many there were."""
        strange = 0
        for chunk, claim in enumerate(self._map.read(self.layout.header_bytes, self.layout.grid.count)):
            if claim not in (ABSENT, PRESENT):
                strange += 1
                self.clear(range(chunk, chunk + 1))
        return strange

    def evict(self, segments: Iterable[int]) -> None:
        """Withdraw the claims to whole segments, then give their blocks back. OSError where holes are unsupported."""
        for segment in segments:
            chunks = self.layout.chunks_of(segment)
            start, end = self.layout.grid.span(chunks.start).start, self.layout.grid.span(chunks.stop - 1).end
            self.clear(chunks)
            self.contents.punch(start, end - start)


def load(places: Places, key: bytes, nar_hash: bytes | None) -> Loaded | None:
    """Open one NAR with its index; None if it is not there. OSError; FormatError if what is there is no good.

    ``nar_hash``: None from who knows the key only.
    """
    names = places.names(key)
    try:
        buffer = _look_at(names.index_file)
    except FileNotFoundError:
        return None
    index = NarIndex.from_bytes(buffer)
    if nar_hash is not None and index.nar_hash != nar_hash:
        raise _damaged("index", f"NarHash {nar_hash.hex()}", index.nar_hash.hex())
    file, states = NarFile.open(names, key)
    if file.layout.grid != index.grid:
        raise _damaged("map", f"the chunks of its index, {index.grid}", str(file.layout.grid))
    beside = len(buffer) + file.layout.map_bytes + _size_of(names.part_file)
    return Loaded(index, file, states, file.contents.allocated_bytes() + beside)


def install(places: Places, layout: Layout, index: bytes, contents: Path | None) -> NarFile:
    """Put one NAR into the cache: complete (``contents`` is moved), or its index only.

    The index comes last: before it the rest is nothing, and is overwritten next time. Only the index must reach the
    disk itself, because it is not compared with anything from elsewhere; what the map claims is.
    """
    for old in (places.index(layout.key), places.part(layout.key)):
        old.unlink(missing_ok=True)
    state = ABSENT if contents is None else PRESENT
    presence = layout.to_bytes() + bytes([state]) * layout.grid.count
    replace_file(places.map(layout.key), presence, places.new_scratch(layout.key), durable=False)
    place = places.contents(layout.key)
    if contents is None:
        place.unlink(missing_ok=True)  # never truncated: somebody may still read the old one
        empty = Descriptor(place, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.ftruncate(empty.fd, layout.grid.nar_size)
    else:
        contents.rename(place)
    replace_file(places.index(layout.key), index, places.new_scratch(layout.key), durable=True)
    file, _ = NarFile.open(places.names(layout.key), layout.key)
    return file


def remove(places: Places, key: bytes) -> None:
    """Remove all of one NAR."""
    for path in places.of(key):
        path.unlink(missing_ok=True)


def _size_of(path: str) -> int:
    """Give the size of a file that need not be there."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a text: see Names
    except FileNotFoundError:
        return 0


def _open_to_write(path: str) -> Descriptor:
    """Open for reading and writing; on a disk that has become read-only, for reading."""
    try:
        return Descriptor(path, os.O_RDWR)
    except OSError:
        return Descriptor(path, os.O_RDONLY)


def _look_at(path: str) -> memoryview:
    file = Descriptor(path, os.O_RDONLY)
    # Read, not mapped: a disk that fails would kill the process with SIGBUS the next time a page is wanted.
    return memoryview(file.read(0, os.fstat(file.fd).st_size))


def _damaged(what: str, expected: str, found: str) -> FormatError:
    return FormatError(f"{what} in the cache", offset=0, expected=expected, found=found)
