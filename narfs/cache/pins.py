"""Pins: closures that are not evicted, because somebody will want them where there is no store.

A file for each in ``pins/``, written and synced before whoever asked hears of it. It has the narinfos of all its paths
as well: those in the catalog go when there are too many of them, or when it is damaged.

What is pinned need not be here; who keeps it complete is the daemon (``daemon/caching/pinning``).
"""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from narfs.cache.disk import OURS, remove_files, replace_file
from narfs.cache.key import key_of
from narfs.errors import FormatError
from narfs.formats.narinfo import NarInfo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from narfs.cache.catalog import Catalog
    from narfs.cache.places import Places

_log = logging.getLogger(__name__)

_VERSION: Final = 1
_SUFFIX: Final = ".json"


@dataclass(frozen=True)
class PinnedPath:
    """A store path of a pin; ``lake`` is what its narinfo is kept under, ``time`` when it was asked for."""

    lake: str
    domain: bytes
    narinfo: NarInfo
    time: float

    @cached_property
    def key(self) -> bytes:
        """Of its NAR."""
        return key_of(self.narinfo.nar_hash, self.domain)


@dataclass(frozen=True)
class Pin:
    """A closure; ``name`` is the base name of the path it is of."""

    name: str
    paths: tuple[PinnedPath, ...]

    def to_bytes(self) -> bytes:
        """Write what is in its file."""
        paths = [
            {
                "lake": path.lake,
                "domain": path.domain.hex(),
                "time": path.time,
                "narinfo": base64.b64encode(path.narinfo.to_bytes()).decode(),
            }
            for path in self.paths
        ]
        return json.dumps({"version": _VERSION, "paths": paths}).encode()

    @classmethod
    def from_bytes(cls, name: str, data: bytes) -> Pin:
        """Read what ``to_bytes`` wrote; FormatError."""
        try:
            said: Any = json.loads(data)
            if said["version"] != _VERSION:
                raise ValueError(f"version {said['version']}")  # noqa: TRY301 - told as all else that is wrong with it
            paths = tuple(
                PinnedPath(
                    str(path["lake"]),
                    bytes.fromhex(path["domain"]),
                    NarInfo.parse(base64.b64decode(path["narinfo"], validate=True)),
                    float(path["time"]),
                )
                for path in said["paths"]
            )
        except (ArithmeticError, FormatError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise FormatError("pin", offset=0, expected="what narfs wrote", found=repr(error)[:80]) from error
        return cls(name, paths)


class Pins:
    """Those of one cache directory."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._pins: dict[str, Pin] = {}
        self._sizes: dict[bytes, int] = {}

    @classmethod
    def load(cls, places: Places) -> Pins:
        """Read them; those that cannot be read are warned of and left out. Blocks; OSError."""
        places.pins.mkdir(mode=0o700, exist_ok=True)
        pins = cls(places)
        for file in sorted(places.pins.iterdir()):
            try:
                pin = Pin.from_bytes(file.name.removesuffix(_SUFFIX), file.read_bytes())
            except (FormatError, OSError) as error:
                _log.warning("cache: pin %s: %s; what it is of may be evicted, pin it again", file.name, error)
            else:
                pins._pins[pin.name] = pin
        pins._add_up()
        return pins

    def __contains__(self, key: bytes) -> bool:
        """Say whether a NAR is pinned."""
        return key in self._sizes

    @property
    def all(self) -> list[Pin]:
        """All of them, by name."""
        return [self._pins[name] for name in sorted(self._pins)]

    @property
    def nar_bytes(self) -> int:
        """Give the size of all NARs that are pinned, each counted once."""
        return sum(self._sizes.values())

    def bytes_with(self, pin: Pin) -> int:
        """Give what ``nar_bytes`` would be."""
        return sum((self._sizes | {path.key: path.narinfo.nar_size for path in pin.paths}).values())

    def remind(self, catalog: Catalog) -> None:
        """Have the catalog know the narinfos. 15 µs each."""
        for pin in self._pins.values():
            for path in pin.paths:
                hash_part = path.narinfo.path.hash_part
                if catalog.narinfo(path.lake, hash_part) is None:
                    catalog.keep_narinfo(path.lake, hash_part, path.narinfo.to_bytes(), path.time)

    def write(self, pin: Pin) -> None:
        """Write one to the disk; ``add`` it then. Blocks; OSError."""
        unfinished = self._places.new_scratch(bytes(32))
        replace_file(self._file(pin.name), pin.to_bytes(), unfinished, durable=True)

    def add(self, pin: Pin) -> None:
        """Keep one from being evicted."""
        self._pins[pin.name] = pin
        self._add_up()

    def remove(self, name: str) -> None:
        """Let one be evicted; ``erase`` it then."""
        self._pins.pop(name, None)
        self._add_up()

    def erase(self, name: str) -> None:
        """Remove one from the disk. Blocks, hardly."""
        remove_files([self._file(name)])

    def drop_damaged(self) -> Iterable[tuple[Path, str]]:
        """Remove files that are no pins; give each and why. Blocks; OSError."""
        for file in sorted(self._places.pins.iterdir()):
            try:
                Pin.from_bytes(file.name, file.read_bytes())
            except FileNotFoundError:
                continue  # unpinned meanwhile
            except (FormatError, OSError) as error:
                if isinstance(error, OSError) and error.errno in OURS:
                    raise
                remove_files([file])
                yield file, str(error)

    def _file(self, name: str) -> Path:
        return self._places.pins / (name + _SUFFIX)

    def _add_up(self) -> None:
        self._sizes = {path.key: path.narinfo.nar_size for pin in self._pins.values() for path in pin.paths}
