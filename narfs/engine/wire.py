"""The messages between the event loop and a worker process, over one stream socket.

A message is ``kind u8 · pass u32 · length u32`` little-endian and ``length`` bytes. The loop speaks BEGIN, then DATA
any number of times, then END or ABORT; the worker answers with ROOT at most once, PASSED any number of times, and then
DONE or FAILED, unless it was told ABORT first. After FAILED it ignores what still comes of that pass. Parts of EROFS
images are made in the same way, begun by BEGIN_PARTS and without ROOT and PASSED.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple

from narfs import errors
from narfs.errors import FormatError, NarfsError, Unavailable

HEADER = struct.Struct("<BII")
ROOT = struct.Struct("<B?Q")
PASSED = struct.Struct("<Q")
PART_LENGTH = struct.Struct("<I")


class Say(IntEnum):
    """Kinds of messages."""

    BEGIN = 1
    """loop → worker: an Order as JSON; with its first byte comes the descriptor of the file, if it is kept."""
    DATA = 2
    """loop → worker: the next bytes of the blob."""
    END = 3
    """loop → worker: the blob is complete."""
    ABORT = 4
    """loop → worker: forget this pass."""
    ROOT = 5
    """worker → loop: kind, executable and size of the NAR's root node."""
    PASSED = 6
    """worker → loop: NAR bytes written so far, then what the tree grew by (progressive passes only)."""
    DONE = 7
    """worker → loop: the NarIndex; everything was compared."""
    FAILED = 8
    """worker → loop: what went wrong, as JSON."""
    BEGIN_PARTS = 9
    """loop → worker: a PartsOrder as JSON; DATA is then their listings, DONE the parts, each behind its length."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do; ``kept``: a file takes the NAR, whose descriptor comes with this."""

    compression: str
    nar_hash: str
    nar_size: int
    kept: bool
    progressive: bool
    begins: ClassVar[Say] = Say.BEGIN

    def to_bytes(self) -> bytes:
        """Encode for BEGIN."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Order:
        """Decode a BEGIN."""
        return cls(**json.loads(data))


class PartPlace(NamedTuple):
    """What a part of EROFS images is made for; ``lengths`` are those of the three buffers of its listing."""

    lengths: tuple[int, ...]
    block: int
    slab_block: int
    shared_block: int | None


@dataclass(frozen=True, slots=True)
class PartsOrder:
    """Parts of EROFS images to be made."""

    places: tuple[PartPlace, ...]
    begins: ClassVar[Say] = Say.BEGIN_PARTS

    def to_bytes(self) -> bytes:
        """Encode for BEGIN_PARTS."""
        return json.dumps(self.places).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> PartsOrder:
        """Decode a BEGIN_PARTS."""
        return cls(tuple(PartPlace(tuple(lengths), *rest) for lengths, *rest in json.loads(data)))


def pack(kind: Say, number: int, payload: bytes = b"") -> bytes:
    """Encode one message of pass ``number``."""
    return HEADER.pack(kind, number, len(payload)) + payload


def failure_to_bytes(error: BaseException) -> bytes:
    """Encode an exception for FAILED; one that is not a NarfsError is a bug and says so."""
    if isinstance(error, FormatError):
        fields = {"what": error.what, "offset": error.offset, "expected": error.expected, "found": error.found}
        return json.dumps({"kind": "FormatError", "fields": fields}).encode()
    if isinstance(error, NarfsError):
        return json.dumps({"kind": type(error).__name__, "message": str(error)}).encode()
    return json.dumps({"kind": "Unavailable", "message": f"bug in the worker: {error!r}"}).encode()


def failure_from_bytes(data: bytes) -> NarfsError:
    """Decode a FAILED into the exception it was."""
    said = json.loads(data)
    if said["kind"] == "FormatError":
        return FormatError(said["fields"].pop("what"), **said["fields"])
    kind = getattr(errors, said["kind"], Unavailable)
    error = kind(said["message"])
    assert isinstance(error, NarfsError)  # noqa: S101 - the names come from errors.py through failure_to_bytes
    return error
