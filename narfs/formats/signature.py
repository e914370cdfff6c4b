"""ed25519 keys and signatures in Nix's format.

::

    secret key = name ":" base64 of 64 bytes (seed, then public key)
    public key = name ":" base64 of 32 bytes
    signature  = name ":" base64 of 64 bytes

The name says which key signed; it is printable, without spaces and colons. Signatures are over a fingerprint's UTF-8.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from nacl.bindings import crypto_sign
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from narfs.errors import FormatError
from narfs.formats.quote import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PUBLIC_KEY_BYTES = 32
SECRET_KEY_BYTES = 64
SIGNATURE_BYTES = 64
_SEED_BYTES = 32
_SECRET_KEY = "secret key"  # noqa: S105 - what it is called in an error


@dataclass(frozen=True, slots=True)
class Signature:
    """What one key says about one fingerprint; not yet believed."""

    key_name: str
    sig64: bytes

    def __post_init__(self) -> None:
        _check("signature", self.key_name, self.sig64, SIGNATURE_BYTES)

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Read the value of a ``Sig`` line."""
        return cls(*_parse("signature", text, SIGNATURE_BYTES))

    def __str__(self) -> str:
        return _write(self.key_name, self.sig64)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key to verify with."""

    name: str
    key32: bytes

    def __post_init__(self) -> None:
        _check("public key", self.name, self.key32, PUBLIC_KEY_BYTES)

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read one word of ``trusted-public-keys``."""
        return cls(*_parse("public key", text, PUBLIC_KEY_BYTES))

    def __str__(self) -> str:
        return _write(self.name, self.key32)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key to sign with; its repr does not show it."""

    name: str
    key64: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check(_SECRET_KEY, self.name, self.key64, SECRET_KEY_BYTES)
        if bytes(SigningKey(self.key64[:_SEED_BYTES]).verify_key) != self.key64[_SEED_BYTES:]:
            raise FormatError(_SECRET_KEY, offset=0, expected="a public half made from the seed", found="another one")

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """Read the text of a secret key file; white space around it is gone."""
        return cls(*_parse(_SECRET_KEY, text.strip(), SECRET_KEY_BYTES))

    @classmethod
    def generate(cls, name: str) -> SecretKey:
        """Make a new key from the system's randomness."""
        signing_key = SigningKey.generate()
        return cls(name, bytes(signing_key) + bytes(signing_key.verify_key))

    @property
    def public(self) -> PublicKey:
        """The half to give away."""
        return PublicKey(self.name, self.key64[_SEED_BYTES:])

    def sign(self, text: str) -> Signature:
        """Sign a fingerprint."""
        # Not SigningKey.sign, which makes the public half anew each time: twice the 30 µs.
        return Signature(self.name, crypto_sign(text.encode(), self.key64)[:SIGNATURE_BYTES])

    def to_text(self) -> str:
        """Write what a secret key file holds."""
        return _write(self.name, self.key64)


@dataclass(frozen=True)
class PublicKeys:
    """The keys somebody trusts. Of two keys with one name the first counts, as in Nix."""

    keys: tuple[PublicKey, ...] = ()

    @classmethod
    def parse(cls, text: str) -> PublicKeys:
        """Read the value of ``trusted-public-keys``: keys between white space."""
        return cls(tuple(PublicKey.parse(word) for word in text.split()))

    def verify(self, fingerprint: str, signatures: Iterable[Signature]) -> str | None:
        """Give the name of the first trusted key that signed ``fingerprint``, None if none did (60 to 160 µs a try)."""
        signed = fingerprint.encode()
        for signature in signatures:
            verify_key = self._verify_keys.get(signature.key_name)
            if verify_key is None:
                continue
            try:
                verify_key.verify(signed, signature.sig64)
            except BadSignatureError:
                continue
            return signature.key_name
        return None

    def named(self, name: str) -> PublicKey | None:
        """Give the key that counts under this name."""
        return next((key for key in self.keys if key.name == name), None)

    @cached_property
    def _verify_keys(self) -> dict[str, VerifyKey]:
        return {key.name: VerifyKey(key.key32) for key in reversed(self.keys)}

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __str__(self) -> str:
        return " ".join(map(str, self.keys))


def _parse(what: str, text: str, length: int) -> tuple[str, bytes]:
    name, _, encoded = text.partition(":")
    try:
        return name, binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        pass  # Nothing worth chaining: binascii knows less about the text than the error below says.
    raise FormatError(what, offset=0, expected=f"a name, ':' and base64 of {length} bytes", found=_show(what, text))


def _check(what: str, name: str, data: bytes, length: int) -> None:
    if not name.isprintable() or not name or " " in name or ":" in name:
        expected = "a printable name without spaces and colons"
        raise FormatError(what, offset=0, expected=expected, found=_show(what, name))
    if len(data) != length:
        raise FormatError(what, offset=len(name) + 1, expected=f"{length} bytes", found=f"{len(data)} bytes")


def _show(what: str, text: str) -> str:
    """Quote ``text``, unless it may be a secret: a damaged key still holds most of it."""
    return "something that is not shown" if what == _SECRET_KEY else quote(text)


def _write(name: str, data: bytes) -> str:
    return f"{name}:{binascii.b2a_base64(data, newline=False).decode()}"


CACHE_NIXOS_ORG_KEY = PublicKey.parse("cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=")
"""The one key Nix trusts when nobody says anything."""
