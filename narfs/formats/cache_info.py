"""nix-cache-info: what a lake says about itself.

::

    nix-cache-info = line*              at most MAX_CACHE_INFO_BYTES
    line           = key ":" value      white space around both is gone; blank lines and unknown keys are skipped

    StoreDir        missing means /nix/store
    WantMassQuery   0 or 1, missing means 0
    Priority        an integer, lower wins, missing means DEFAULT_PRIORITY

People write this file by hand, so it is read more kindly than a narinfo. A line without a colon is still an error: it
tells a web server's greeting page from a lake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from narfs.errors import FormatError
from narfs.formats.quote import quote
from narfs.formats.store_path import STORE_DIR

MAX_CACHE_INFO_BYTES = 64 * 1024
DEFAULT_PRIORITY = 50

_INTEGER = re.compile("-?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """A lake's store directory, whether it likes being asked for many paths at once, and its place in the order."""

    store_dir: str = STORE_DIR
    want_mass_query: bool = False
    priority: int = DEFAULT_PRIORITY

    @classmethod
    def parse(cls, data: bytes) -> CacheInfo:
        """Read it; of a key given twice the last counts."""
        if len(data) > MAX_CACHE_INFO_BYTES:
            expected = f"at most {MAX_CACHE_INFO_BYTES} bytes"
            raise _error(MAX_CACHE_INFO_BYTES, expected=expected, found=f"{len(data)}")
        values: dict[str, str] = {}
        offsets: dict[str, int] = {}
        offset = 0
        for line in data.split(b"\n"):
            key, colon, value = line.decode("latin-1").partition(":")
            if colon:
                values[key.strip()] = value.strip()
                offsets[key.strip()] = offset
            elif key.strip():
                raise _error(offset, expected="'Key: value'", found=quote(line))
            offset += len(line) + 1
        want_mass_query = values.get("WantMassQuery", "0")
        if want_mass_query not in ("0", "1"):
            raise _error(offsets["WantMassQuery"], expected="WantMassQuery: 0 or 1", found=quote(want_mass_query))
        priority = values.get("Priority", str(DEFAULT_PRIORITY))
        if not _INTEGER.fullmatch(priority):
            raise _error(offsets["Priority"], expected="Priority: an integer", found=quote(priority))
        store_dir = values.get("StoreDir", STORE_DIR)
        if not store_dir.startswith("/") or not store_dir.isascii() or not store_dir.isprintable():
            raise _error(offsets["StoreDir"], expected="StoreDir: an absolute path", found=quote(store_dir))
        return cls(store_dir, want_mass_query == "1", int(priority))

    def to_bytes(self) -> bytes:
        """Write it as Nix does."""
        lines = (
            f"StoreDir: {self.store_dir}\n",
            f"WantMassQuery: {self.want_mass_query:d}\n",
            f"Priority: {self.priority}\n",
        )
        return "".join(lines).encode()


def _error(offset: int, *, expected: str, found: str) -> FormatError:
    return FormatError("nix-cache-info", offset=offset, expected=expected, found=found)
