"""Hashes as Nix writes them.

::

    hash = algorithm ":" (hex | nix32 | base64)      told apart by length
         | algorithm "-" base64                      SRI
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from narfs.errors import FormatError
from narfs.formats import base32
from narfs.formats.quote import quote

DIGEST_BYTES = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
"""The algorithms Nix knows, and the length of what they give."""

_HEX = re.compile("[0-9A-Fa-f]+")


@dataclass(frozen=True, slots=True)
class Hash:
    """An algorithm and its digest; every spelling carries the name of the algorithm."""

    algo: str
    digest: bytes

    def __post_init__(self) -> None:
        if DIGEST_BYTES.get(self.algo) != len(self.digest):
            raise FormatError(
                "hash",
                offset=0,
                expected="a digest as long as its algorithm says",
                found=f"{len(self.digest)} bytes for {quote(self.algo)}",
            )

    @classmethod
    def parse(cls, text: str) -> Hash:
        """Read any of the spellings."""
        algo, separator, digits = _split(text)
        length = DIGEST_BYTES[algo]
        if separator == ":" and len(digits) == length * 2 and _HEX.fullmatch(digits):
            return cls(algo, bytes.fromhex(digits))
        if separator == ":" and len(digits) == base32.digits_for(length):
            return cls(algo, base32.decode(digits, what=f"{algo} hash"))
        digest = _from_base64(digits)
        if digest is None or len(digest) != length:
            raise FormatError(
                f"{algo} hash",
                offset=len(algo) + 1,
                expected=f"{length} bytes in base64" if separator == "-" else f"{length} bytes in hex, nix32 or base64",
                found=quote(digits),
            )
        return cls(algo, digest)

    @property
    def nix32(self) -> str:
        """The spelling of narinfos: ``sha256:`` and 52 digits."""
        return f"{self.algo}:{base32.encode(self.digest)}"

    @property
    def hex(self) -> str:
        """The spelling inside store path digests: ``sha256:`` and 64 digits."""
        return f"{self.algo}:{self.digest.hex()}"

    @property
    def sri(self) -> str:
        """The spelling of newer Nix: ``sha256-`` and base64."""
        return f"{self.algo}-{binascii.b2a_base64(self.digest, newline=False).decode()}"


def _split(text: str) -> tuple[str, str, str]:
    for separator in ":-":
        algo, found, digits = text.partition(separator)
        if found and algo in DIGEST_BYTES:
            return algo, separator, digits
    raise FormatError("hash", offset=0, expected="md5, sha1, sha256 or sha512 and a digest", found=quote(text))


def _from_base64(text: str) -> bytes | None:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    # a2b_base64 lets stray bits in the last digit pass; a value has one spelling.
    return data if binascii.b2a_base64(data, newline=False).decode() == text else None
