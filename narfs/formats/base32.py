"""nix32: a number of 5-bit digits in Nix's own alphabet.

The bytes are one little-endian number, written most significant digit first: read backwards they are what RFC 4648
calls base32 in another alphabet, without its padding. Bits of the first digit beyond the number must be zero, so every
byte string has exactly one spelling.
"""

from __future__ import annotations

import re
from base64 import b32encode
from functools import lru_cache

from narfs.errors import FormatError
from narfs.formats.quote import quote

ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"
"""No e, o, t, u: hashes should not spell words."""

_FROM_RFC4648 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ALPHABET.encode())
_TO_PYTHON_DIGITS = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_STRANGE_CHARACTER = re.compile(f"[^{ALPHABET}]")


def digits_for(byte_count: int) -> int:
    """Give the number of digits that ``byte_count`` bytes take: 32 for a store path's 20, 52 for a sha256."""
    return -(-byte_count * 8 // 5)


@lru_cache(maxsize=1024)  # a hash stands in its narinfo, in what is signed and in names; 5 µs
def encode(data: bytes) -> str:
    """Write ``data`` in nix32."""
    whole_groups = -(-len(data) // 5) * 5
    padded = b32encode(data[::-1].rjust(whole_groups, b"\0"))
    return padded[len(padded) - digits_for(len(data)) :].translate(_FROM_RFC4648).decode()


def decode(text: str, *, what: str) -> bytes:
    """Read nix32; ``what`` is the thing that the FormatError is about."""
    if strange := _STRANGE_CHARACTER.search(text):
        raise FormatError(what, offset=strange.start(), expected="a nix32 digit", found=quote(strange.group()))
    byte_count = len(text) * 5 // 8
    number = int(text.translate(_TO_PYTHON_DIGITS) or "0", 32)
    if digits_for(byte_count) != len(text) or number >> (byte_count * 8):
        raise FormatError(what, offset=0, expected="nix32 of a whole number of bytes", found=quote(text))
    return number.to_bytes(byte_count, "little")
