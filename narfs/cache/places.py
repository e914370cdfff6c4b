"""Where in the cache directory things are."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from narfs.errors import FormatError
from narfs.formats import base32

SUFFIXES: Final = (".index", ".map", ".nar", ".part")
"""Of the files of one NAR; the index, without which the rest is nothing, first."""

_KEY_BYTES: Final = 32


def is_folder(name: str) -> bool:
    """Say whether a folder of NARs may be called so."""
    return len(name) == 2 and set(name) <= set(base32.ALPHABET)


def is_name(name: str) -> bool:
    """Say whether the files of a NAR may be called so."""
    try:
        return len(base32.decode(name, what="a name")) == _KEY_BYTES
    except FormatError:
        return False


class Names(NamedTuple):
    """The files of one NAR, in the order of ``SUFFIXES``: as texts, because four Paths take longer than two opens."""

    index_file: str
    map_file: str
    contents_file: str
    part_file: str


class Places:
    """The paths of one cache directory. NARs are spread over 1024 folders by the first two digits of their keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = directory / "lock"
        self.catalog = directory / "catalog.sqlite"
        self.nars = directory / "nar"
        self.scratch = directory / "scratch"
        self.profiles = directory / "profile"
        self.pins = directory / "pins"
        catalogs = {self.catalog.name + suffix for suffix in ("", "-wal", "-shm", "-journal", ".damaged")}
        self.known = catalogs | {path.name for path in (self.lock, self.nars, self.scratch, self.profiles, self.pins)}
        """What may be in the directory."""
        self._nars = str(self.nars)
        self._numbers = count()

    def contents(self, key: bytes) -> Path:
        """Where the NAR with holes is."""
        return self._of(key, ".nar")

    def map(self, key: bytes) -> Path:
        """Where it says which chunks are there."""
        return self._of(key, ".map")

    def index(self, key: bytes) -> Path:
        """Where the NarIndex is."""
        return self._of(key, ".index")

    def part(self, key: bytes) -> Path:
        """Where its part of EROFS images is, if one was made."""
        return self._of(key, ".part")

    def of(self, key: bytes) -> tuple[Path, ...]:
        """All of one NAR, in the order of ``SUFFIXES``."""
        return tuple(map(Path, self.names(key)))

    def names(self, key: bytes) -> Names:
        """Do as ``of``, for who opens hundreds."""
        begin = self._begin(key)
        return Names(*(begin + suffix for suffix in SUFFIXES))

    def new_scratch(self, key: bytes) -> Path:
        """Give a name in ``scratch`` that nothing has had since the cache was opened."""
        return self.scratch / f"{base32.encode(key)}.{next(self._numbers)}"

    def _of(self, key: bytes, suffix: str) -> Path:
        return Path(self._begin(key) + suffix)

    def _begin(self, key: bytes) -> str:
        name = base32.encode(key)
        return f"{self._nars}/{name[:2]}/{name}"
