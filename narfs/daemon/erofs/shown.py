"""What the kernel shows of a View by EROFS, written down so that the next process can go on serving its slab."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.errors import Unavailable
from narfs.formats.erofs.lot import lot_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from narfs.daemon.erofs.image import Laid
    from narfs.mount.view import Attachment, View

_CHECK_BYTES: Final = 32


class Shown(NamedTuple):
    """An EROFS mount at ``place`` over the slab with this number.

    ``ranges`` are first block, number of blocks, base name of the store path, and the key of its lot in hex, which is
    of its NAR, its tree, and the way in which this version lays one out.
    """

    place: str
    image: str
    slab: int
    ranges: tuple[tuple[int, int, str, str], ...]

    @classmethod
    def of(cls, place: Path, image: Path, slab: int, ranges: Iterable[Laid]) -> Shown:
        """Describe what was just mounted."""
        named = ((one.block, one.blocks, one.attachment.path.base_name, one.key.hex()) for one in ranges)
        return cls(str(place), str(image), slab, tuple(named))

    def ranges_in(self, view: View) -> list[tuple[int, int, Attachment]]:
        """Find the ranges in a View that was made again, 0.5 ms a MB of its trees; Unavailable if they are not its."""
        found = []
        for start, blocks, name, key in self.ranges:
            who = view.named(name.encode())
            listing = None if who is None else who.accessor.listing
            if who is None or listing is None or lot_key(who.accessor.key, listing).hex() != key:
                raise Unavailable(f"{name}: is not what the kernel shows at {self.place}")
            found.append((start, blocks, who))
        return found

    def write(self, file: Path) -> None:
        """Write it, whole or not at all, with its sha256. Not synced: it is worth nothing after a reboot."""
        new = file.with_suffix(".new")
        told = json.dumps(self._asdict()).encode()
        new.write_bytes(told + hashlib.sha256(told).digest())
        os.replace(new, file)  # noqa: PTH105

    @classmethod
    def read(cls, file: Path) -> Shown | None:
        """Read what was written; None if nothing was, not by this version, or if a bit of it flipped."""
        try:
            data = file.read_bytes()
        except OSError:
            return None
        told, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
        return cls.parse(told) if hashlib.sha256(told).digest() == check else None

    @classmethod
    def parse(cls, data: bytes) -> Shown | None:
        """Read what such a file tells; None if it makes no sense to this version."""
        try:
            told = json.loads(data)
            ranges = ((int(start), int(blocks), str(name), str(key)) for start, blocks, name, key in told["ranges"])
            return cls(str(told["place"]), str(told["image"]), int(told["slab"]), tuple(ranges))
        except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError):
            return None
