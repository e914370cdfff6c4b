r"""A profile as it is kept, exported and put into a lake, signed there. docs/lake-format.md.

::

    object    = magic(8) u32-version u32-bytes-of-text u32-bytes-of-body text body       little-endian
    text      = statement "\n" *( signature "\n" )                                       see signed_text.py
    statement = "narfs-profile-1;" name ";sha256:" sha256-of-body                        hash in nix32
    body      = one zstd frame with content size                                         profile.py has its contents

The body is compared with the statement, and the statement with the name it was asked for by, before it is decompressed.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

import zstandard

from narfs.errors import Corrupt, UsageError
from narfs.formats.digest import Hash
from narfs.formats.frames import decode_frame
from narfs.formats.profile import MAX_BODY_BYTES, Profile, bad, checked_profile_name
from narfs.formats.quote import quote
from narfs.formats.signed_text import MAX_TEXT_BYTES, require_stated, signer_of, split_text, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.formats.signature import PublicKeys, SecretKey

_MAGIC: Final = b"NARFPROF"
_VERSION: Final = 1
_PROLOGUE: Final = struct.Struct("<8sIII")
_DOMAIN: Final = "narfs-profile-1"
_WHAT: Final = "profile"
_LEVEL: Final = 9

MAX_PROFILE_BYTES: Final = MAX_BODY_BYTES + MAX_TEXT_BYTES + 4096
"""Of a whole object. The reads of B1's program, 190 files, take 4 KB."""


def object_name(name: str) -> str:
    """Give what the object of a profile is called in a lake: one word of letters and digits, whatever the name."""
    digest = hashlib.sha256(f"{_DOMAIN};{checked_profile_name(name)}".encode()).digest()
    return f"{Hash('sha256', digest).nix32.removeprefix('sha256:')}.narfs-profile"


def write_profile(name: str, profile: Profile, keys: Sequence[SecretKey] = ()) -> bytes:
    """Write the object, signed with all ``keys``."""
    body = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(profile.to_bytes())
    text = write_text(_statement(name, body), keys)
    return b"".join((_PROLOGUE.pack(_MAGIC, _VERSION, len(text), len(body)), text, body))


def read_profile(data: bytes, name: str | None = None, keys: PublicKeys | None = None) -> tuple[str, Profile]:
    """Check and read an object; give its name and contents.

    Corrupt if its name is not ``name``, or its body not what its text says; Untrusted if there are ``keys`` and none of
    them signed it; FormatError.
    """
    if len(data) < _PROLOGUE.size:
        raise bad(f"{_PROLOGUE.size} bytes", f"{len(data)}")
    magic, version, text_bytes, body_bytes = _PROLOGUE.unpack_from(data)
    if magic != _MAGIC:
        raise bad("the magic of a profile", quote(magic))
    if version != _VERSION:
        raise bad(f"version {_VERSION}", f"{version}", offset=8)
    if text_bytes > MAX_TEXT_BYTES or len(data) != _PROLOGUE.size + text_bytes + body_bytes:
        raise bad("a text and a body that fill the object", f"{text_bytes} and {body_bytes} bytes", offset=12)
    text_end = _PROLOGUE.size + text_bytes
    stated, lines = split_text(data[_PROLOGUE.size : text_end], _WHAT, _PROLOGUE.size)
    body = data[text_end:]
    found = _name_in(stated)
    require_stated(stated, _statement(name or found, body), _WHAT)
    if keys is not None:
        signer_of(stated, lines, keys, _WHAT)
    return found, Profile.parse(_decompressed(body))


def _statement(name: str, body: bytes) -> str:
    return ";".join((_DOMAIN, checked_profile_name(name), Hash("sha256", hashlib.sha256(body).digest()).nix32))


def _name_in(statement: str) -> str:
    fields = statement.split(";")
    if len(fields) != 3:
        raise Corrupt(f"profile: its text states {quote(statement)}")
    try:
        return checked_profile_name(fields[1])
    except UsageError as error:
        raise bad("the name of a profile", quote(fields[1]), offset=_PROLOGUE.size) from error


def _decompressed(body: bytes) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
    except zstandard.ZstdError as error:
        raise bad("a zstd frame", str(error)) from error
    if not 0 <= size <= MAX_BODY_BYTES:
        raise bad(f"a body of at most {MAX_BODY_BYTES} bytes", f"{size}")
    return decode_frame("zstd", body, size)
