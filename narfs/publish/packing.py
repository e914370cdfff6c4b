"""Packing: from a NAR to what a lake gets of it. Blocking; the caller feeds the NAR and keeps the blob."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from narfs.errors import Corrupt, FormatError
from narfs.formats import base32
from narfs.formats.compression import KNOWN, encoder
from narfs.formats.digest import Hash
from narfs.formats.ls import to_ls
from narfs.formats.nar import NarIndexer
from narfs.formats.seal import index_name, seal
from narfs.publish.nar_dump import dump_hops
from narfs.publish.sealing import SealedEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import SecretKey
    from narfs.publish.sealing import FramePress


@dataclass(frozen=True, slots=True)
class Parcel:
    """A path on its way into a lake; of ``narinfo`` all but the blob's name, hash and size is known."""

    narinfo: NarInfo
    accusation: str
    """How the error for a wrong NAR begins: where it comes from, and what may have happened to it."""
    level: int
    narinfo_key: SecretKey | None
    """Signs the narinfo, beside the signatures that it has."""
    index_key: SecretKey | None
    """The blob gets the sealed layout, and an index signed with this key; None: one frame, no index."""


def with_blob(narinfo: NarInfo, file_hash: Hash, file_size: int) -> NarInfo:
    """Complete a narinfo; its signatures do not cover what changes."""
    url = f"nar/{base32.encode(file_hash.digest)}.nar{KNOWN[narinfo.compression]}"
    return replace(narinfo, url=url, file_hash=file_hash, file_size=file_size)


@dataclass(frozen=True, slots=True)
class Packed:
    """What a lake gets beside the blob, and the narinfo for last: complete, its signatures do not cover what is new."""

    narinfo: NarInfo
    listing: bytes
    index: bytes | None


class Packing:
    """One parcel being packed: every piece of the NAR is fed, ``keep`` is given the blob."""

    def __init__(self, parcel: Parcel, press: FramePress, keep: Callable[[bytes], object]) -> None:
        self._parcel = parcel
        self._keep = keep
        self._indexer = NarIndexer(parcel.narinfo.nar_size)
        self._sealing = SealedEncoder(self._indexer.builder, press) if parcel.index_key else None
        self._encoder = self._sealing or encoder(parcel.narinfo.compression, level=parcel.level)
        self._nar = hashlib.sha256()
        self._blob = hashlib.sha256()
        self._file_size = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the NAR; Corrupt as soon as they cannot be of the expected one."""
        self._nar.update(piece)
        try:
            self._indexer.feed(piece)
        except FormatError as error:
            raise self._blame(str(error)) from error
        self._write(self._encoder.feed(piece))

    def finish(self) -> Packed:
        """Say that the NAR ended; Corrupt if it is not the expected one."""
        parcel, expected = self._parcel, self._parcel.narinfo
        try:
            listing = self._indexer.finish()
        except FormatError as error:
            raise self._blame(str(error)) from error
        if self._nar.digest() != expected.nar_hash:
            found, promised = Hash("sha256", self._nar.digest()), Hash("sha256", expected.nar_hash)
            raise self._blame(f"{found.nix32}, not {promised.nix32}")
        self._write(self._encoder.finish())
        file_hash = Hash("sha256", self._blob.digest())
        narinfo = with_blob(expected, file_hash, self._file_size)
        if parcel.narinfo_key:
            narinfo = narinfo.sign(parcel.narinfo_key)
        if not self._sealing or not parcel.index_key:
            return Packed(narinfo, to_ls(listing), None)
        narinfo = narinfo.with_index(index_name(narinfo.path))
        index = seal(self._sealing.index(narinfo, listing), narinfo, [parcel.index_key])
        return Packed(narinfo, to_ls(listing), index)

    def _blame(self, found: str) -> Corrupt:
        return Corrupt(f"{self._parcel.accusation}: {found}")

    def _write(self, compressed: bytes) -> None:
        self._blob.update(compressed)
        self._keep(compressed)
        self._file_size += len(compressed)


@dataclass(frozen=True, slots=True)
class Crate:
    """A small path, packed, with its blob in memory."""

    packed: Packed
    blob: bytes


def crate(root: Path, parcel: Parcel, press: FramePress) -> Crate:
    """Pack a small path of this machine in one go; Corrupt if its NAR is not the expected one."""
    blob: list[bytes] = []
    packing = Packing(parcel, press, blob.append)
    with closing(dump_hops(root)) as pieces:
        for piece in pieces:
            packing.feed(piece)
    return Crate(packing.finish(), b"".join(blob))
