"""Store paths: one child of /nix/store each.

::

    path      = "/nix/store/" base-name
    base-name = digest "-" name
    digest    = 32 nix32 digits: 160 bits
    name      = 1 to 211 of [0-9A-Za-z+-._?=], but not ".", "..", and not beginning with ".-" or "..-"

A content-addressed source path (``nix store add-path``, and every fixed output hashed as a NAR with sha256) has the
digest of ``source[:reference…]:sha256:<hex NarHash>:/nix/store:<name>``, so it can be computed from the NarHash.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from narfs.errors import FormatError
from narfs.formats import base32
from narfs.formats.quote import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

STORE_DIR = "/nix/store"
DIGEST_BYTES = 20
HASH_PART_CHARS = 32
MAX_NAME_CHARS = 211
"""Nix's own bound: with digest and dash before and a suffix behind, it must fit the 255 bytes of a file name."""

HASH_PART = re.compile(f"[{base32.ALPHABET}]{{{HASH_PART_CHARS}}}")
_BASE_NAME = re.compile(
    rf"{HASH_PART.pattern}-"
    r"(?!\.\.?(?:-|\Z))"  # Nix: "." and ".." as the first dash-separated part could be taken for directories
    rf"[0-9A-Za-z+\-._?=]{{1,{MAX_NAME_CHARS}}}"
)


@dataclass(frozen=True, slots=True, order=True)
class StorePath:
    """One child of the store directory, ordered as Nix orders them: by base name, not by digest bytes."""

    base_name: str

    def __post_init__(self) -> None:
        if not _BASE_NAME.fullmatch(self.base_name):
            raise FormatError(
                "store path",
                offset=0,
                expected=f"{HASH_PART_CHARS} nix32 digits, '-' and a name of 1 to {MAX_NAME_CHARS} characters",
                found=quote(self.base_name),
            )

    @classmethod
    def parse(cls, base_name: str | bytes) -> StorePath:
        """Read a base name."""
        # Latin-1 gives every byte a character, and the grammar knows no character beyond ASCII.
        return cls(base_name.decode("latin-1") if isinstance(base_name, bytes) else base_name)

    @classmethod
    def parse_absolute(cls, path: str) -> StorePath:
        """Read ``/nix/store/…`` with nothing below it."""
        return cls(_below_store_dir(path))

    @classmethod
    def split(cls, path: str) -> tuple[StorePath, str]:
        """Split ``/nix/store/x-y/sub/dir`` into the store path and ``sub/dir`` (empty for the store path itself).

        What is below is given as it stands, ``..`` included; only slashes around it are gone.
        """
        base_name, _, below = _below_store_dir(path).partition("/")
        return cls(base_name), below.strip("/")

    @classmethod
    def from_digest(cls, digest: bytes, name: str) -> StorePath:
        """Join the two parts."""
        return cls(f"{base32.encode(digest)}-{name}")

    @property
    def digest(self) -> bytes:
        """The 20 bytes behind the hash part."""
        return base32.decode(self.hash_part, what="store path")

    @property
    def name(self) -> str:
        """What follows the hash part and its dash."""
        return self.base_name[HASH_PART_CHARS + 1 :]

    @property
    def hash_part(self) -> str:
        """The first 32 characters: the key under which a lake keeps the narinfo."""
        return self.base_name[:HASH_PART_CHARS]

    @property
    def path(self) -> str:
        """The absolute path."""
        return f"{STORE_DIR}/{self.base_name}"

    def __str__(self) -> str:
        return self.path


def make_source_path(name: str, nar_sha256: bytes, references: Iterable[StorePath] = ()) -> StorePath:
    """Compute the path of content addressed by its NarHash; ``references`` without a reference to itself."""
    kind = ":".join(["source", *(reference.path for reference in sorted(set(references)))])
    spelled = f"{kind}:sha256:{nar_sha256.hex()}:{STORE_DIR}:{name}"
    return StorePath.from_digest(_fold(hashlib.sha256(spelled.encode()).digest()), name)


def _below_store_dir(path: str) -> str:
    if not path.startswith(f"{STORE_DIR}/"):
        raise FormatError("store path", offset=0, expected=f"a path in {STORE_DIR}", found=quote(path))
    return path.removeprefix(f"{STORE_DIR}/")


def _fold(digest: bytes) -> bytes:
    """Shorten a digest as Nix does: byte i is xored onto byte i mod 20."""
    folded = bytearray(DIGEST_BYTES)
    for position, byte in enumerate(digest):
        folded[position % DIGEST_BYTES] ^= byte
    return bytes(folded)
