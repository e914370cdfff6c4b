r"""The narinfo: the signed description of a store path.

::

    narinfo = line+                    at most MAX_NARINFO_BYTES of UTF-8, no carriage return anywhere
    line    = key ": " value "\n"      the value may be empty

    StorePath, URL, NarHash, NarSize   required; NarSize is not 0
    References, CA                     at most once
    Sig                                any number
    Compression                        missing or empty means bzip2
    Deriver                            a base name, or "unknown-deriver" for none
    others known here                  the last of several counts
    unknown keys                       kept in ``extra``, in their order

Only StorePath, NarHash, NarSize and References are covered by a signature. URL, Compression, FileHash, FileSize,
Deriver, CA and every unknown line are anybody's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from narfs.errors import FormatError
from narfs.formats.digest import Hash
from narfs.formats.quote import quote
from narfs.formats.signature import SecretKey, Signature
from narfs.formats.store_path import StorePath, make_source_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_NARINFO_BYTES = 1024 * 1024
"""A path with 10 000 references, more than any seen, takes 0.6 MB."""

NAR_HASH_BYTES = 32
MAX_SIZE = 2**64 - 1
_MAX_SIZE_DIGITS = len(str(MAX_SIZE))
_UNKNOWN_DERIVER = "unknown-deriver"
_INDEX_KEY = "X-Narfs-Index"
_DEFAULT_COMPRESSION = "bzip2"


@dataclass(frozen=True, slots=True)
class NarInfo:
    """One store path as one lake describes it.

    ``file_hash`` and ``file_size`` belong to the compressed object and are hints; ``deriver`` is a base name.
    """

    path: StorePath
    url: str
    compression: str
    nar_hash: bytes
    nar_size: int
    references: tuple[StorePath, ...] = ()
    file_hash: Hash | None = None
    file_size: int | None = None
    deriver: str | None = None
    signatures: tuple[Signature, ...] = ()
    ca: str | None = None
    extra: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        # What is written must be read back as the same: a newline in a value would be a line of its own.
        texts = (self.url, self.compression, self.ca or "", *chain.from_iterable(self.extra))
        if not self.url or not self.compression or any("\n" in text or "\r" in text for text in texts):
            raise _error(0, expected="values of one line, URL and Compression not empty", found=quote("|".join(texts)))
        if len(self.nar_hash) != NAR_HASH_BYTES or not 0 < self.nar_size <= MAX_SIZE:
            found = f"{len(self.nar_hash)} bytes and {self.nar_size}"
            raise _error(0, expected=f"{NAR_HASH_BYTES} bytes of NarHash and a NarSize of 1 to {MAX_SIZE}", found=found)
        if self.deriver is not None:
            StorePath(self.deriver)

    @classmethod
    def parse(cls, data: bytes, *, expect: StorePath | str | None = None) -> NarInfo:
        """Read a narinfo; ``expect`` is the store path it must describe, or only the hash part that was asked for.

        A FormatError's offset is that of the line at fault, or the end where a line is missing.
        """
        fields: dict[str, Any] = {}
        signatures: list[Signature] = []
        extra: list[tuple[str, str]] = []
        for offset, key, value in _lines(data):
            if key not in _FIELDS:
                extra.append((key, value))
                continue
            attribute, parse_value = _FIELDS[key]
            if attribute in fields and key in _ONLY_ONCE:
                raise _error(offset, expected=f"{key} only once", found="another one")
            try:
                parsed = parse_value(value)
            except FormatError as error:
                raise _error(offset, expected=f"{key}: {error.expected}", found=error.found) from error
            if attribute == "path" and not _is_expected(parsed, expect):
                raise _error(offset, expected=f"StorePath: {expect}", found=quote(value))
            if attribute == "signatures":
                signatures.append(parsed)
            else:
                fields[attribute] = parsed
        for key in _REQUIRED:
            if _FIELDS[key][0] not in fields:
                raise _error(len(data), expected=f"a line {key}", found="the end")
        fields.setdefault("compression", _DEFAULT_COMPRESSION)
        return cls(**fields, signatures=tuple(signatures), extra=tuple(extra))

    def to_bytes(self) -> bytes:
        """Write it, lines in Nix's order, unknown ones last."""
        return "".join(f"{key}: {value}\n" for key, value in self._to_lines()).encode()

    @property
    def fingerprint(self) -> str:
        """The text that signatures are made over."""
        references = ",".join(reference.path for reference in sorted(set(self.references)))
        return f"1;{self.path.path};{Hash('sha256', self.nar_hash).nix32};{self.nar_size};{references}"

    def sign(self, key: SecretKey) -> NarInfo:
        """Add the signature of ``key``, in place of older ones under its name."""
        kept = tuple(signature for signature in self.signatures if signature.key_name != key.name)
        return replace(self, signatures=(*kept, key.sign(self.fingerprint)))

    @property
    def index_name(self) -> str | None:
        """Where in the lake the sealed index of this path is said to be, by a line that Nix ignores (seal.py)."""
        return next((value for key, value in reversed(self.extra) if key == _INDEX_KEY), None)

    def with_index(self, name: str) -> NarInfo:
        """Say where the sealed index is."""
        kept = tuple((key, value) for key, value in self.extra if key != _INDEX_KEY)
        return replace(self, extra=(*kept, (_INDEX_KEY, name)))

    def content_address_matches(self) -> bool:
        """Whether the store path follows from the NarHash, so that checking the NarHash proves the path unsigned.

        That is so for ``fixed:r:sha256`` without a reference to itself. Every other method hashes something that
        NarHash does not tell (a file's bytes, a NAR with its own name blanked out, a git tree): False, like no CA.
        """
        if self.ca is None or self.path in self.references:
            return False
        method, _, address = self.ca.rpartition(":sha256:")
        try:
            if method != "fixed:r" or Hash.parse(f"sha256:{address}").digest != self.nar_hash:
                return False
        except FormatError:
            return False
        return make_source_path(self.path.name, self.nar_hash, self.references) == self.path

    def _to_lines(self) -> Iterator[tuple[str, str]]:
        yield "StorePath", self.path.path
        yield "URL", self.url
        yield "Compression", self.compression
        if self.file_hash is not None:
            yield "FileHash", self.file_hash.nix32
        if self.file_size is not None:
            yield "FileSize", str(self.file_size)
        yield "NarHash", Hash("sha256", self.nar_hash).nix32
        yield "NarSize", str(self.nar_size)
        yield "References", " ".join(reference.base_name for reference in self.references)
        if self.deriver is not None:
            yield "Deriver", self.deriver
        for signature in self.signatures:
            yield "Sig", str(signature)
        if self.ca is not None:
            yield "CA", self.ca
        yield from self.extra


def _lines(data: bytes) -> Iterator[tuple[int, str, str]]:
    """Give every line as its offset, key and value."""
    if len(data) > MAX_NARINFO_BYTES:
        raise _error(MAX_NARINFO_BYTES, expected=f"at most {MAX_NARINFO_BYTES} bytes", found=f"{len(data)}")
    *lines, rest = data.split(b"\n")
    offset = 0
    for line in lines:
        try:
            key, separator, value = line.decode().partition(":")
        except UnicodeDecodeError as error:
            raise _error(offset, expected="UTF-8", found=quote(line)) from error
        if not key or not separator or value[:1] != " " or "\r" in value or "\r" in key:
            raise _error(offset, expected="'Key: value' and a newline", found=quote(line))
        yield offset, key, value[1:]
        offset += len(line) + 1
    if rest:
        raise _error(offset, expected="a newline after the last line", found=quote(rest))


def _error(offset: int, *, expected: str, found: str) -> FormatError:
    return FormatError("narinfo", offset=offset, expected=expected, found=found)


def _is_expected(path: StorePath, expect: StorePath | str | None) -> bool:
    return expect is None or expect == (path.hash_part if isinstance(expect, str) else path)


def _url(value: str) -> str:
    if not value:
        raise _error(0, expected="a URL", found="nothing")
    return value


def _compression(value: str) -> str:
    return value or _DEFAULT_COMPRESSION


def _nar_hash(value: str) -> bytes:
    parsed = Hash.parse(value)
    if parsed.algo != "sha256":
        raise _error(0, expected="a sha256", found=quote(value))
    return parsed.digest


def _size(value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) <= _MAX_SIZE_DIGITS and (size := int(value)) <= MAX_SIZE:
        return size
    raise _error(0, expected=f"a decimal number up to {MAX_SIZE}", found=quote(value))


def _nar_size(value: str) -> int:
    if (size := _size(value)) == 0:
        raise _error(0, expected="a size that is not 0", found=quote(value))
    return size


def _file_size(value: str) -> int | None:
    """Nix writes 0 where it does not know; no compressed object is empty."""
    return _size(value) or None


def _references(value: str) -> tuple[StorePath, ...]:
    return tuple(StorePath(word) for word in value.split(" ") if word)


def _deriver(value: str) -> str | None:
    return None if value == _UNKNOWN_DERIVER else StorePath(value).base_name


_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "StorePath": ("path", StorePath.parse_absolute),
    "URL": ("url", _url),
    "Compression": ("compression", _compression),
    "FileHash": ("file_hash", Hash.parse),
    "FileSize": ("file_size", _file_size),
    "NarHash": ("nar_hash", _nar_hash),
    "NarSize": ("nar_size", _nar_size),
    "References": ("references", _references),
    "Deriver": ("deriver", _deriver),
    "Sig": ("signatures", Signature.parse),
    "CA": ("ca", str),
}
_REQUIRED = ("StorePath", "URL", "NarHash", "NarSize")
_ONLY_ONCE = frozenset({"References", "CA"})
