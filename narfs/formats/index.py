"""NarIndex: what narfs keeps about a NAR after it passed once: its tree, a digest per chunk, the frames of its blob.

The file, version 2; integers have the machine's byte order (another machine's version number is not 2)::

    magic "narfsidx", u32 version, u32 chunk_bytes, NarHash (32), u64 nar_size, 7 × u64 lengths of the sections
    the sections, each padded with zeros to 8: nodes, names, children (listing.py), digests, frames (none: length 0),
        cuts (u64 each; equal chunks: length 0), voucher (the pass that compared the NarHash: length 0)
    sha256 of everything before

``from_bytes`` reads a buffer in place. It computes the sha256 (4 ms for 100 k entries, the interpreter lock
released) and compares lengths, both in no Python loop; what the checksum cannot promise, that the writer was right, is
the listing's to suspect record by record.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from narfs.errors import FormatError
from narfs.formats.frames import FrameTable
from narfs.formats.listing import Kind, NarListing
from narfs.formats.nar import Root, max_nodes
from narfs.formats.quote import quote
from narfs.formats.signature import PublicKey
from narfs.offsets import ChunkGrid

_MAGIC: Final = b"narfsidx"
_VERSION: Final = 2
_HEADER: Final = struct.Struct("=8sII32sQ7Q")
DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class NarIndex:
    """All of it describes the NAR with this NarHash, but ``frames``: they describe one blob of it."""

    nar_hash: bytes
    nar_size: int
    listing: NarListing
    grid: ChunkGrid
    digests: bytes | memoryview
    """sha256 of each chunk of ``grid``, one behind the other."""
    frames: FrameTable | None
    voucher: PublicKey | None = None
    """The key that signed the sealed index this was; None: a pass over the whole NAR compared the NarHash."""

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        if len(self.nar_hash) != DIGEST_BYTES:
            raise _error("a NarHash of 32 bytes", len(self.nar_hash))
        if self.grid.nar_size != self.nar_size or not self.grid.is_sound:
            raise _error("a grid over the NAR", self.grid)
        if len(self.digests) != self.grid.count * DIGEST_BYTES:
            raise _error(f"{self.grid.count} digests of chunks", f"{len(self.digests)} bytes")
        if len(self.listing) > max_nodes(self.nar_size):
            raise _error(f"nodes that fit into {self.nar_size} bytes", len(self.listing))
        if self.frames is not None and self.frames.nar_size != self.nar_size:
            raise _error("frames of the whole NAR", "others")

    @property
    def root(self) -> Root:
        """What ``peek_root`` says of the NAR."""
        node = self.listing.node(0)
        return Root(node.kind, node.executable, 0 if node.kind is Kind.DIRECTORY else node.size)

    def digest(self, chunk: int) -> bytes:
        """Give the sha256 of a chunk."""
        return bytes(self.digests[chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES])

    def to_bytes(self) -> bytes:
        """Serialize."""
        frames = b"" if self.frames is None else self.frames.to_bytes()
        cuts = b"" if self.grid.cuts is None else memoryview(self.grid.cuts).cast("B")
        voucher = b"" if self.voucher is None else str(self.voucher).encode()
        sections = (*self.listing.buffers, self.digests, frames, cuts, voucher)
        lengths = map(len, sections)
        header = _HEADER.pack(_MAGIC, _VERSION, self.grid.chunk_bytes, self.nar_hash, self.nar_size, *lengths)
        body = b"".join((header, *(part for section in sections for part in (section, bytes(-len(section) % 8)))))
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, buffer: bytes | memoryview) -> NarIndex:
        """Parse exactly ``buffer``, which the index goes on to look at, and must not change; FormatError if unsound."""
        view = memoryview(buffer).cast("B").toreadonly()
        if len(view) < _HEADER.size:
            raise _error("a header", f"{len(view)} bytes")
        magic, version, chunk_bytes, nar_hash, nar_size, *lengths = _HEADER.unpack_from(view)
        if magic != _MAGIC:
            raise _error("the magic of a NarIndex", quote(magic))
        if version != _VERSION:
            raise _error(f"version {_VERSION}", version, offset=8)
        ends = list(accumulate((length + -length % 8 for length in lengths), initial=_HEADER.size))
        if len(view) != ends[-1] + DIGEST_BYTES:
            raise _error(f"{ends[-1] + DIGEST_BYTES} bytes", len(view), offset=56)
        if view[ends[-1] :] != hashlib.sha256(view[: ends[-1]]).digest():
            raise _error("the sha256 of what is before it", "another", offset=ends[-1])
        nodes, names, children, digests, frames, cuts, voucher = (
            view[begin : begin + length] for begin, length in zip(ends, lengths, strict=False)
        )
        return cls(
            nar_hash=nar_hash,
            nar_size=nar_size,
            listing=NarListing(nodes, names, children),
            grid=ChunkGrid(nar_size, chunk_bytes, _cuts(cuts) if len(cuts) else None),
            digests=digests,
            frames=FrameTable.from_bytes(frames) if len(frames) else None,
            voucher=PublicKey.parse(bytes(voucher).decode("ascii", "replace")) if len(voucher) else None,
        )


def _cuts(section: memoryview) -> memoryview:
    if len(section) % 8:
        raise _error("cuts of 8 bytes", f"{len(section)} bytes")
    return section.cast("Q")


def _error(expected: str, found: object, *, offset: int = 0) -> FormatError:
    return FormatError("NarIndex", offset=offset, expected=expected, found=str(found)[:80])
