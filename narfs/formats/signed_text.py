r"""The signed part of narfs's own objects: one statement, and signatures over it.

::

    text      = statement "\n" *( signature "\n" )      UTF-8, at most MAX_TEXT_BYTES
    statement = domain ";" …                            what it says is its object's business

A domain is like no beginning of a narinfo's fingerprint ("1;") and like no other, so that a signature over one kind of
statement never stands for another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from narfs.errors import Corrupt, FormatError, Untrusted
from narfs.formats.quote import quote
from narfs.formats.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from narfs.formats.signature import PublicKey, PublicKeys, SecretKey

MAX_TEXT_BYTES: Final = 64 * 1024


def write_text(statement: str, keys: Iterable[SecretKey]) -> bytes:
    """Sign a statement with all ``keys``."""
    return "".join(f"{line}\n" for line in (statement, *(key.sign(statement) for key in keys))).encode()


def split_text(text: bytes, what: str, offset: int) -> tuple[str, list[str]]:
    """Give statement and lines of signatures, none of them believed; FormatError."""
    try:
        statement, *lines = text.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(what, offset=offset, expected="a text in UTF-8", found=quote(text)) from error
    return statement, lines


def require_stated(stated: str, expected: str, what: str) -> None:
    """Raise Corrupt, naming the fields that differ."""
    if stated != expected:
        fields = zip(stated.split(";"), expected.split(";"), strict=False)
        differing = [f"{quote(theirs)} and not {ours}" for theirs, ours in fields if theirs != ours]
        raise Corrupt(f"{what}: is for {', '.join(differing) or 'something else'}")


def signer_of(statement: str, lines: Iterable[str], keys: PublicKeys, what: str) -> PublicKey:
    """Find the first of ``keys`` that signed; Untrusted, FormatError."""
    lines = list(lines)
    name = keys.verify(statement, map(Signature.parse, lines))
    key = None if name is None else keys.named(name)
    if key is None:
        names = quote(", ".join(line.partition(":")[0] for line in lines))
        raise Untrusted(f"{what}: no trusted index key signed it; the signatures are of {names}")
    return key
