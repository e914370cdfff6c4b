"""The NAR grammar: words, the tokens they are folded into, and every limit by name.

::

    nar       = "nix-archive-1" node
    node      = "(" "type" ( regular | symlink | directory ) ")"
    regular   = "regular" [ "executable" "" ] "contents" BYTES
    symlink   = "symlink" "target" BYTES
    directory = "directory" { "entry" "(" "name" BYTES "node" node ")" }

Each terminal is a string: u64 little-endian length, bytes, zero padding to 8. Between two strings that carry data stand
only fixed words, so these are folded into tokens that are compared as a whole, together with the padding in front:

=============  ==============================================================================
in front of    stands
=============  ==============================================================================
a name         padding and end of the sibling before (``gap``), ``entry ( name``: ENTRY[gap]
the next end   padding and end of the last child (``gap``), ``)``: END[gap]
a node         padding of its name (``lead``) or the magic, then ``node ( type …``: the tables
               DIRECTORY, REGULAR, EXECUTABLE, SYMLINK by ``lead``
=============  ==============================================================================

Nix's limit of 32 bytes for a tag needs no code: a tag is compared with the few that may stand there.
"""

from __future__ import annotations

import struct
from typing import Final

from narfs.errors import FormatError
from narfs.formats.quote import quote

MAX_NAME_BYTES: Final = 255
MAX_TARGET_BYTES: Final = 4095
MAX_DEPTH: Final = 64
"""Nodes lie at depth 0 (the root) to 63."""
MAX_NAR_SIZE: Final = (1 << 63) - 1
"""Nix counts in u64; more than a file's largest offset can neither be stored nor served."""

ALIGN: Final = 8
U64: Final = struct.Struct("<Q")


def string(value: bytes) -> bytes:
    """Frame one string: length, bytes, padding."""
    return U64.pack(len(value)) + value + bytes(-len(value) % ALIGN)


def token(words: str) -> bytes:
    """Fold space-separated words into one token; ``''`` stands for the empty string."""
    return b"".join(string(b"" if word == "''" else word.encode("ascii")) for word in words.split())


def _after_data(words: str) -> tuple[bytes, ...]:
    """Fold words once for each remainder of the length of the data in front: with the padding it needs."""
    return tuple(bytes(-remainder % ALIGN) + token(words) for remainder in range(ALIGN))


OPENED: Final = 8
"""The ``gap`` in a directory before its first entry; 0 to 7: after contents or a target of such a remainder."""
LEFT: Final = 9
"""The ``gap`` after a subdirectory was left."""
ENTRY: Final = (*_after_data(") ) entry ( name"), token("entry ( name"), token(") entry ( name"))
END: Final = (*_after_data(") ) )"), token(")"), token(") )"))
ROOT_END: Final = _after_data(")")
"""By remainder of the contents or target of a root that is no directory."""

ROOT: Final = 8
"""The ``lead`` of the root node; 0 to 7: after a name of such a remainder."""


def _node(words: str) -> tuple[bytes, ...]:
    return (*_after_data("node " + words), token("nix-archive-1 " + words))


DIRECTORY: Final = _node("( type directory")
REGULAR: Final = _node("( type regular contents")
EXECUTABLE: Final = _node("( type regular executable '' contents")
SYMLINK: Final = _node("( type symlink target")

ROOT_MIN_BYTES: Final = len(DIRECTORY[ROOT]) + len(END[OPENED])
"""The smallest NAR: an empty directory."""
NODE_MIN_BYTES: Final = len(ENTRY[OPENED]) + len(string(b"x")) + len(token("node ( type directory ) )"))
"""The least that a node below the root adds to a NAR: an empty directory with a name of 1 to 8 bytes."""


def spell(folded: bytes) -> str:
    """Give the words of a token."""
    words = []
    at = len(folded) % ALIGN
    if at:
        words.append("padding")
    while at < len(folded):
        (length,) = U64.unpack_from(folded, at)
        at += U64.size
        words.append(folded[at : at + length].decode("ascii") or "''")
        at += length + -length % ALIGN
    return " ".join(words)


DOTS: Final = (b".", b"..")


def bad_name(offset: int, name: bytes, previous: bytes) -> FormatError:
    """Say why ``name`` cannot follow ``previous`` in a directory."""
    if name in DOTS:
        return bad(offset, "a name that is not . or ..", name)
    if b"/" in name or b"\0" in name:
        return bad(offset, "a name without slash or NUL", name)
    return bad(offset, f"a name greater than {quote(previous)}", name)


def bad(offset: int, expected: str, found: bytes | str) -> FormatError:
    """Make the error for bytes that are no NAR."""
    return FormatError("NAR", offset=offset, expected=expected, found=found if isinstance(found, str) else quote(found))
