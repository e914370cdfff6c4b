"""Where in the cache directory things are."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from narfs.formats import base32

if TYPE_CHECKING:
    from pathlib import Path


class Places:
    """The paths of one cache directory. NARs are spread over 1024 folders by the first two digits of their keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = directory / "lock"
        self.catalog = directory / "catalog.sqlite"
        self.nars = directory / "nar"
        self.scratch = directory / "scratch"
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
        """All of one NAR; the index, without which the rest is nothing, first."""
        return self.index(key), self.map(key), self.contents(key), self.part(key)

    def new_scratch(self, key: bytes) -> Path:
        """Give a name in ``scratch`` that nothing has had since the cache was opened."""
        return self.scratch / f"{base32.encode(key)}.{next(self._numbers)}"

    def _of(self, key: bytes, suffix: str) -> Path:
        name = base32.encode(key)
        return self.nars / name[:2] / (name + suffix)
