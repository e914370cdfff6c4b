"""What is kept of checked signatures: beside a narinfo, the key that was found to have signed it.

Checking one takes 0.1 ms, and a closure has hundreds. That a key signed some text stays true, so no more is kept than
this: whether the key counts is asked of each reader's own keys, every time.

The proof binds a key to one text to the byte, as this version reads it. It is against a disk that rots and against two
rows that do not belong together. Against somebody who writes here there is none: he could read the secret of an HMAC,
too. An audit finds what he wrote, because it checks the signatures themselves.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from narfs import __version__
from narfs.errors import FormatError
from narfs.formats.narinfo import NarInfo
from narfs.formats.signature import PublicKey, PublicKeys

_DOMAIN: Final = f"narfs {__version__} found signed".encode()
"""Another version may read a narinfo otherwise: it finds out for itself."""


def proof(text: bytes, key: bytes) -> bytes:
    """Bind a key to a narinfo."""
    return hashlib.sha256(b"\n".join((_DOMAIN, key, text))).digest()


def voucher(text: bytes, key: bytes | None, kept: bytes | None) -> PublicKey | None:
    """Give the key that was found to have signed ``text``, if what is ``kept`` says so: 2 µs."""
    return _parsed(key) if key is not None and proof(text, key) == kept else None


def is_signed(text: bytes, key: bytes) -> bool:
    """Check the signature itself, whatever was kept of it."""
    signer = _parsed(key)
    try:
        narinfo = NarInfo.parse(text)
    except FormatError:
        return False
    return signer is not None and PublicKeys((signer,)).verify(narinfo.fingerprint, narinfo.signatures) is not None


@lru_cache(maxsize=64)
def _parsed(key: bytes) -> PublicKey | None:
    try:
        return PublicKey.parse(key.decode())
    except (FormatError, UnicodeDecodeError):
        return None
