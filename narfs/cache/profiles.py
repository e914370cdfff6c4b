"""Profiles: what programs read, kept beside the NARs, each in a file of its own.

They count for nothing in the cache's budget and are bounded by themselves. Files are replaced whole, so that another
process may look at them, and take or bring one, while this one has the directory. All of it blocks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.cache.disk import remove_files, replace_file
from narfs.cache.places import Places
from narfs.errors import CacheUnusable, NotFound
from narfs.formats.profile import checked_profile_name, is_profile_name
from narfs.formats.profile_object import MAX_PROFILE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIX: Final = ".profile"
MAX_KEPT: Final = 1000
MAX_KEPT_BYTES: Final = 32 * 1024 * 1024


class KeptProfile(NamedTuple):
    """A file of them. ``changed`` is in seconds since the epoch."""

    changed: float
    name: str
    size: int


class Profiles:
    """Those of one cache directory, which need not be there yet."""

    def __init__(self, cache_directory: Path) -> None:
        self._places = Places(cache_directory)
        self._directory = self._places.profiles

    def all(self) -> list[KeptProfile]:
        """Give all, the one that changed last first; CacheUnusable."""
        try:
            files = list(self._directory.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error
        found = []
        for file in files:
            if file.suffix == _SUFFIX and is_profile_name(file.stem):
                with suppress(OSError):  # removed meanwhile
                    told = file.stat()
                    found.append(KeptProfile(told.st_mtime, file.stem, told.st_size))
        return sorted(found, reverse=True)

    def load(self, name: str) -> bytes:
        """Give one as it was kept; NotFound, CacheUnusable."""
        try:
            with self._file(name).open("rb") as file:
                return file.read(MAX_PROFILE_BYTES + 1)
        except FileNotFoundError:
            raise NotFound(f"there is no profile named {name}; narfs profile list tells which there are") from None
        except OSError as error:
            raise self._unusable(error) from error

    def keep(self, name: str, data: bytes) -> None:
        """Keep one, in place of the one before; those that changed longest ago make room. CacheUnusable."""
        try:
            self._places.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._places.scratch.mkdir(mode=0o700, exist_ok=True)
            # A name that nobody else has: this may be another process than the one that has the cache.
            replace_file(self._file(name), data, self._places.new_scratch(os.urandom(16)), durable=False)
        except OSError as error:
            raise self._unusable(error) from error
        kept_bytes = 0
        for number, one in enumerate(self.all()):
            kept_bytes += one.size
            if number >= MAX_KEPT or kept_bytes > MAX_KEPT_BYTES:
                remove_files([self._file(one.name)])

    def remove(self, name: str) -> None:
        """Remove one; NotFound, CacheUnusable."""
        try:
            self._file(name).unlink()
        except FileNotFoundError:
            raise NotFound(f"there is no profile named {name}; narfs profile list tells which there are") from None
        except OSError as error:
            raise self._unusable(error) from error

    def _file(self, name: str) -> Path:
        return self._directory / (checked_profile_name(name) + _SUFFIX)

    def _unusable(self, error: OSError) -> CacheUnusable:
        return CacheUnusable(f"{self._directory}: {error.strerror}")
