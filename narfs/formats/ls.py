"""``.ls``: the tree of a NAR as JSON, as Nix writes it beside the narinfo. Unsigned: a hint, never evidence.

::

    {"version": 1, "root": {"type": "directory", "entries": {NAME: node, …}}}
    node = … | {"type": "regular", "size": N, "executable": true?, "narOffset": N?} | {"type": "symlink", "target": T}

JSON is text and names are bytes: Nix 2.8 writes bytes that are no UTF-8 as they are (newer Nix gives up on such a
tree), and so does ``to_ls``. Keys come in any order, unknown ones are ignored; harmonia leaves narOffset out.

All offsets follow from names, kinds and sizes. ``from_ls`` writes the framing that the tree must have and lets the NAR
parser read it: the grammar is judged in one place, and the offsets that a .ls states are only compared.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Final

from narfs.errors import FormatError
from narfs.formats.growing import ListingBuilder
from narfs.formats.listing import Kind, NarListing
from narfs.formats.nar import NarWriter
from narfs.formats.nar_parser import NarParser
from narfs.formats.quote import quote

MAX_LS_BYTES: Final = 64 * 1024 * 1024
"""More than 500 k entries; parsed JSON takes ten times its size in memory for a moment."""

_ENCODING: Final = ("utf-8", "surrogateescape")


def layout(listing: NarListing) -> tuple[NarListing, int]:
    """Lay the same tree out anew: the listing with the only possible offsets, and the NarSize that follows."""
    relaid = _Layout()
    for node, ended in listing.visits():
        name = listing.name(node)
        match listing.kind(node):
            case Kind.DIRECTORY if ended:
                relaid.leave()
            case Kind.DIRECTORY:
                relaid.enter(name)
            case Kind.SYMLINK:
                relaid.symlink(name, listing.target(node))
            case _:
                relaid.regular(name, listing.node(node).executable, listing.node(node).size)
    return relaid.finish()


class _Layout:
    """A NAR without contents, from the writer to the parser. FormatError for what no NAR can hold."""

    def __init__(self) -> None:
        self._writer = NarWriter()
        self._builder = ListingBuilder()
        self._parser = NarParser(self._builder)

    def enter(self, name: bytes) -> None:
        self._parser.feed(self._writer.enter(name))

    def leave(self) -> None:
        self._parser.feed(self._writer.leave())

    def regular(self, name: bytes, executable: bool, size: int) -> int:
        """Give the offset of the contents."""
        self._parser.feed(self._writer.regular(name, executable, size))
        self._parser.skip(size)
        return self._writer.nar_size - size

    def symlink(self, name: bytes, target: bytes) -> None:
        self._parser.feed(self._writer.symlink(name, target))

    def finish(self) -> tuple[NarListing, int]:
        self._parser.feed(self._writer.finish())
        self._parser.finish()
        return self._builder.finish(), self._writer.nar_size


def to_ls(listing: NarListing) -> bytes:
    """Write the JSON that Nix 2.8 would: no spaces, raw bytes for what is no UTF-8, a narOffset for every file."""
    parts = [b'{"version":1,"root":']
    first = True
    for node, ended in listing.visits():
        if ended:
            parts.append(b"}}")
            first = False
            continue
        if node:
            parts += (b"" if first else b",", _quoted(listing.name(node)), b":")
        first = False
        match listing.kind(node):
            case Kind.DIRECTORY:
                parts.append(b'{"type":"directory","entries":{')
                first = True
            case Kind.SYMLINK:
                parts += (b'{"type":"symlink","target":', _quoted(listing.target(node)), b"}")
            case _:
                _, _, executable, nar_offset, size, _, _ = listing.node(node)
                flag = b',"executable":true' if executable else b""
                parts.append(b'{"type":"regular","size":%d%b,"narOffset":%d}' % (size, flag, nar_offset))
    parts.append(b"}")
    return b"".join(parts)


def from_ls(data: bytes) -> NarListing:
    """Parse a .ls; FormatError for every lie that it can tell alone. Whether it tells of the right NAR it cannot know.

    Compare ``layout(listing)[1]`` with the NarSize to catch most others.
    """
    if len(data) > MAX_LS_BYTES:
        raise FormatError(".ls", offset=MAX_LS_BYTES, expected="its end", found=f"{len(data)} bytes in all")
    try:
        document = json.loads(data.decode(*_ENCODING), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise FormatError(
            ".ls", offset=error.pos, expected="JSON", found=quote(data[error.pos : error.pos + 16])
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand levels
        raise FormatError(".ls", offset=0, expected="JSON of a listing", found=quote(str(error))) from None
    if not isinstance(document, dict) or document.get("version") != 1:
        raise _bad("an object of version 1", document)
    laid = _Layout()
    try:
        _node(laid, b"", document.get("root"))
        return laid.finish()[0]
    except UnicodeEncodeError as error:
        raise FormatError(".ls", offset=0, expected="text of bytes", found=quote(error.object)) from None


def _node(laid: _Layout, name: bytes, node: object) -> None:
    """Lay out one JSON node; the depth is bounded by the writer."""
    if not isinstance(node, dict):
        raise _bad("an object for each node", node)
    match node:
        case {"type": "directory", "entries": dict(entries)}:
            laid.enter(name)
            for child, inner in sorted(
                ((key.encode(*_ENCODING), inner) for key, inner in entries.items()), key=itemgetter(0)
            ):
                _node(laid, child, inner)
            laid.leave()
        case {"type": "symlink", "target": str(target)}:
            laid.symlink(name, target.encode(*_ENCODING))
        case {"type": "regular", "size": int(size)}:
            executable, stated = node.get("executable", False), node.get("narOffset")
            if not isinstance(executable, bool) or isinstance(size, bool):
                raise _bad("a size and a boolean for each file", node)
            nar_offset = laid.regular(name, executable, size)
            if stated is not None and stated != nar_offset:
                raise _bad(f"narOffset {nar_offset} for {quote(name)}", stated)
        case _:
            raise _bad("a directory, regular file or symlink", node)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice")
    return members


def _bad(expected: str, found: object) -> FormatError:
    """Make an error about the meaning: JSON that was read no longer knows where it stood."""
    return FormatError(".ls", offset=0, expected=expected, found=quote(repr(found)))


def _quoted(name: bytes) -> bytes:
    return encode_basestring(name.decode(*_ENCODING)).encode(*_ENCODING)
