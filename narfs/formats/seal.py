r"""The sealed index: ``<hash>.narfs`` beside a narinfo, a NarIndex that an index key has signed. docs/lake-format.md.

::

    object    = magic(8) u32-version u32-bytes-of-text u32-bytes-of-head text head page*       little-endian
    text      = statement "\n" *( signature "\n" )
    statement = "narfs-index-1;" store-path ";sha256:" NarHash ";" NarSize ";sha256:" sha256-of-head    hashes in nix32
    head      = one zstd frame with content size        sealed_head.py has its contents, and the pages

Signed is the statement, which no narinfo's fingerprint can be mistaken for (that begins with "1;"). It says whose tree
and digests these are, and holds the digest of the head, which holds those of the pages: with the head, a page of a NAR
of 100 GB can be fetched and checked by itself. Nothing is decompressed or interpreted before it was compared with what
was signed. Frames are of one blob, known by its FileHash: for any other blob of the same NAR they are left out.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from typing import TYPE_CHECKING, Final

import zstandard

from narfs.formats.digest import Hash
from narfs.formats.frames import decode_frame
from narfs.formats.quote import quote
from narfs.formats.sealed_head import PAGE_CHUNKS, SealedHead, bad, max_head_bytes, write_head
from narfs.formats.sealed_pages import PagedIndex
from narfs.formats.signed_text import MAX_TEXT_BYTES, require_stated, signer_of, split_text, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.formats.index import NarIndex
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import PublicKey, PublicKeys, SecretKey
    from narfs.formats.store_path import StorePath

MAX_INDEX_BYTES: Final = 256 * 1024 * 1024
"""Of a whole object: a NAR of a terabyte, or of ten million files."""

_MAGIC: Final = b"NARFSEAL"
_VERSION: Final = 1
_PROLOGUE: Final = struct.Struct("<8sIII")
PROLOGUE_BYTES: Final = _PROLOGUE.size
_DOMAIN: Final = "narfs-index-1"
_WHAT: Final = "sealed index"
_LEVEL: Final = 9


def index_name(path: StorePath) -> str:
    """Give what narfs calls the object of a path, in a lake of indexes too."""
    return f"{path.hash_part}.narfs"


def statement(narinfo: NarInfo, head_digest: bytes) -> str:
    """Give the text that is signed."""
    nar_hash, head = Hash("sha256", narinfo.nar_hash).nix32, Hash("sha256", head_digest).nix32
    return ";".join((_DOMAIN, narinfo.path.path, nar_hash, str(narinfo.nar_size), head))


def seal(index: NarIndex, narinfo: NarInfo, keys: Sequence[SecretKey], *, page_chunks: int = PAGE_CHUNKS) -> bytes:
    """Write the object for ``narinfo``, whose blob the frames of ``index`` are of."""
    _require_little_endian()
    file_hash = b"" if narinfo.file_hash is None else narinfo.file_hash.digest
    if index.frames is not None and narinfo.file_size != index.frames.blob_size:
        raise ValueError("frames of another blob")
    head, pages = write_head(index, file_hash, page_chunks)
    head = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(head)
    signed = statement(narinfo, hashlib.sha256(head).digest())
    text = write_text(signed, keys)
    return b"".join((_PROLOGUE.pack(_MAGIC, _VERSION, len(text), len(head)), text, head, *pages))


def head_end(prologue: bytes | memoryview) -> int:
    """Tell from the first PROLOGUE_BYTES of an object how many of it ``open_head`` needs; FormatError."""
    return sum(_lengths(prologue), PROLOGUE_BYTES)


def open_head(data: bytes | memoryview, narinfo: NarInfo, keys: PublicKeys) -> SealedHead:
    """Check and read the head of the object that ``data`` is, or begins.

    Corrupt if it is the index of something else than ``narinfo`` says, or not what its own text says was signed;
    Untrusted if none of ``keys`` signed it; FormatError.
    """
    _require_little_endian()
    view = memoryview(data)
    text_bytes, head_bytes = _lengths(view)
    text_end, end = PROLOGUE_BYTES + text_bytes, PROLOGUE_BYTES + text_bytes + head_bytes
    if len(view) < end:
        raise bad(f"{end} bytes up to the end of the head", f"{len(view)}", offset=len(view))
    head = view[text_end:end]
    expected = statement(narinfo, hashlib.sha256(head).digest())
    signer = _signer(bytes(view[PROLOGUE_BYTES:text_end]), expected, keys)
    return SealedHead.parse(_decompressed(head, narinfo.nar_size), narinfo, signer, end)


def unseal(data: bytes, narinfo: NarInfo, keys: PublicKeys) -> NarIndex:
    """Check and read a whole object; raises as ``open_head`` does."""
    return unseal_beginning(data, narinfo, keys, whole=True).index


def unseal_beginning(data: bytes, narinfo: NarInfo, keys: PublicKeys, *, whole: bool = False) -> PagedIndex:
    """Check and read the head and those pages that are in ``data``; raises as ``open_head`` does.

    ``whole``: there is nothing behind ``data``, so it must end with the last page.
    """
    view = memoryview(data)
    paged = PagedIndex(open_head(view, narinfo, keys))
    spans = [paged.head.page_span(page) for page in range(paged.head.pages)]
    if whole and len(view) != spans[-1][1]:
        raise bad(f"{spans[-1][1]} bytes", f"{len(view)}", offset=min(spans[-1][1], len(view)))
    for page, (start, end) in enumerate(spans):
        if end <= len(view):
            paged.fill(page, view[start:end])
    return paged


def _lengths(prologue: bytes | memoryview) -> tuple[int, int]:
    """Read the lengths of text and head."""
    if len(prologue) < PROLOGUE_BYTES:
        raise bad(f"{PROLOGUE_BYTES} bytes", f"{len(prologue)}")
    magic, version, text_bytes, head_bytes = _PROLOGUE.unpack_from(prologue)
    if magic != _MAGIC:
        raise bad("the magic of a sealed index", quote(magic))
    if version != _VERSION:
        raise bad(f"version {_VERSION}", f"{version}", offset=8)
    if text_bytes > MAX_TEXT_BYTES or head_bytes > MAX_INDEX_BYTES:
        raise bad("a text and a head of legal size", f"{text_bytes} and {head_bytes} bytes", offset=12)
    return text_bytes, head_bytes


def _signer(text: bytes, expected: str, keys: PublicKeys) -> PublicKey:
    """Find who signed. What was signed is compared first: that tells more than a signature that does not fit."""
    stated, lines = split_text(text, _WHAT, PROLOGUE_BYTES)
    require_stated(stated, expected, _WHAT)
    return signer_of(expected, lines, keys, _WHAT)


def _decompressed(head: memoryview, nar_size: int) -> memoryview:
    try:
        size = zstandard.frame_content_size(head)
    except zstandard.ZstdError as error:
        raise bad("a zstd frame", str(error)) from error
    if not 0 <= size <= max_head_bytes(nar_size):
        raise bad(f"a head that fits a NAR of {nar_size} bytes", f"{size} bytes")
    return memoryview(decode_frame("zstd", head, size))


def _require_little_endian() -> None:
    if sys.byteorder != "little":
        raise bad("a little-endian machine: the tree is used as it is stored", sys.byteorder)
