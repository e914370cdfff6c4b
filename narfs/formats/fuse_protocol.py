"""What the kernel and a FUSE server say to each other over /dev/fuse, as far as a few read-only files need it.

The source is linux/fuse.h, protocol 7.38: numbers in the machine's byte order, structures without holes. A request is a
head and a body; an answer is a head and, unless it is an error, a body::

    request   length u32, opcode u32, unique u64, nodeid u64, uid u32, gid u32, pid u32, extensions u16, padding u16
    answer    length u32, minus errno or 0 i32, unique u64
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from narfs.errors import FormatError

ROOT_NODE: Final = 1

FOREVER_S: Final = 2**32 - 1

READ_MAX_BYTES: Final = 1024 * 1024
"""Of one READ, which is 256 pages of 4 KiB, as much as the kernel grants."""

REQUEST_MAX_BYTES: Final = 8192
"""The least that the kernel wants to have room for. Longer requests carry what is written, of which there is none."""

_REQUEST = struct.Struct("=IIQQIIIHH")
_ANSWER = struct.Struct("=IiQ")
_INIT_ASKED = struct.Struct("=IIII")
_INIT_FLAGS2 = struct.Struct("=I")
_INIT = struct.Struct("=IIIIHHIIHHI28x")
_READ = struct.Struct("=QQI")
_ENTRY = struct.Struct("=QQQQII")
_ATTRIBUTES_VALID = struct.Struct("=QII")
_ATTRIBUTES = struct.Struct("=6Q10I")
_STATFS = struct.Struct("=QQQQQIII28x")

_VERSION = (7, 38)

_ASYNC_READ = 1 << 0
_NO_OPEN = 1 << 17
_MAX_PAGES = 1 << 22
_NO_OPENDIR = 1 << 24
_EXPLICIT_INVALIDATION = 1 << 25
_INIT_EXTENDED = 1 << 30
_HAS_RESEND = 1 << 39

_WANTED = _ASYNC_READ | _NO_OPEN | _MAX_PAGES | _NO_OPENDIR | _EXPLICIT_INVALIDATION | _INIT_EXTENDED | _HAS_RESEND

_BACKGROUND = 64
"""Reads ahead under way; the kernel's own 12 are used up by two programs."""

_NOTIFY_RESEND = 7

_BLOCK_BYTES = 4096


class Opcode(IntEnum):
    """What is asked, of those that are answered otherwise than with ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READ = 15
    STATFS = 17
    INIT = 26
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


SILENT: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})
"""What no answer is given to."""


class Request(NamedTuple):
    """One request of the kernel; ``node`` is what it is about."""

    opcode: int
    unique: int
    node: int
    body: memoryview


class Attributes(NamedTuple):
    """What stat() tells of a node that is root's and never changes."""

    node: int
    mode: int
    size: int


def parse_request(data: bytes) -> Request:
    """Read what one read(2) of /dev/fuse gave; FormatError."""
    length, opcode, unique, node, _, _, _, extensions, _ = _unpack(_REQUEST, data, "the head of a request")
    if length != len(data):
        raise FormatError("a request of FUSE", offset=0, expected=f"{len(data)} bytes", found=f"{length} by its head")
    return Request(opcode, unique, node, memoryview(data)[_REQUEST.size : length - 8 * extensions])


def parse_name(body: memoryview) -> bytes:
    """Read the body of a LOOKUP."""
    return bytes(body).removesuffix(b"\0")


def parse_read(body: memoryview) -> tuple[int, int]:
    """Read offset and size from the body of a READ; FormatError."""
    _, offset, size = _unpack(_READ, body, "a READ")
    return offset, size


def answer_head(unique: int, nbytes: int, *, errno: int = 0) -> bytes:
    """Write the head of an answer whose body has ``nbytes``."""
    return _ANSWER.pack(_ANSWER.size + nbytes, -errno, unique)


def resend_notice() -> bytes:
    """Ask for all requests that were read and not answered once more (Linux 6.9): whoever read them is dead."""
    return _ANSWER.pack(_ANSWER.size, _NOTIFY_RESEND, 0)


def init_body(asked: memoryview) -> bytes:
    """Answer INIT: opens need no request (so reads come without a handle), reads have up to READ_MAX_BYTES.

    FormatError if the kernel is older than what all this needs.
    """
    major, minor, read_ahead, flags = _unpack(_INIT_ASKED, asked, "an INIT")
    if flags & _INIT_EXTENDED:
        flags |= _unpack(_INIT_FLAGS2, asked[_INIT_ASKED.size :], "an INIT")[0] << 32
    if (major, minor) < _VERSION or not flags & _NO_OPEN:
        wanted = ".".join(map(str, _VERSION))
        raise FormatError("INIT", offset=0, expected=f"FUSE {wanted} or newer", found=f"{major}.{minor}")
    flags &= _WANTED
    pages = READ_MAX_BYTES // _BLOCK_BYTES
    threshold = _BACKGROUND * 3 // 4
    return _INIT.pack(
        *_VERSION, read_ahead, flags & 0xFFFF_FFFF, _BACKGROUND, threshold, _BLOCK_BYTES, 1, pages, 0, flags >> 32
    )


def entry_body(found: Attributes) -> bytes:
    """Answer LOOKUP: the name may mean another node one day, the node is what it is."""
    return _ENTRY.pack(found.node, 0, 0, FOREVER_S, 0, 0) + _attributes(found)


def attributes_body(found: Attributes) -> bytes:
    """Answer GETATTR. The root's own are asked for each time: its children come and go."""
    return _ATTRIBUTES_VALID.pack(0 if found.node == ROOT_NODE else FOREVER_S, 0, 0) + _attributes(found)


def statfs_body(size: int) -> bytes:
    """Answer STATFS: a full disk."""
    return _STATFS.pack(-(-size // _BLOCK_BYTES), 0, 0, 0, 0, _BLOCK_BYTES, 255, _BLOCK_BYTES)


def _attributes(found: Attributes) -> bytes:
    blocks = -(-found.size // 512)
    return _ATTRIBUTES.pack(found.node, found.size, blocks, 1, 1, 1, 0, 0, 0, found.mode, 1, 0, 0, 0, _BLOCK_BYTES, 0)


def _unpack(form: struct.Struct, data: bytes | memoryview, what: str) -> tuple[int, ...]:
    if len(data) < form.size:
        raise FormatError(f"{what} of FUSE", offset=0, expected=f"{form.size} bytes", found=str(len(data)))
    return form.unpack_from(data)
