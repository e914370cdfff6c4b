"""Directories: blocks of records and names, sorted by name, ``.`` and ``..`` among them where they belong.

A block holds n records of 12 bytes, then their n names without separators. It takes as many as fit, and the rest of it
is zeros; a directory ends behind its last name. Where that is, its st_size, nobody can choose: ``packed_bytes`` tells.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from narfs.formats.erofs.ondisk import BLOCK_BYTES, DIRECTORY_TYPE, DIRENT

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOTS: Final = (b".", b"..")


def packed_bytes(names: list[bytes]) -> int:
    """Tell the st_size of a directory with these names, sorted and without dots: 0.04 to 0.25 µs a name."""
    total = sum(map(len, names)) + DIRENT.size * (len(names) + 2) + 3
    if total <= BLOCK_BYTES:
        return total
    names = names.copy()
    for dot in _DOTS:
        names.insert(bisect_left(names, dot), dot)
    *full, (begin, end) = _cuts(names)
    return len(full) * BLOCK_BYTES + sum(map(len, names[begin:end])) + DIRENT.size * (end - begin)


def pack(names: list[bytes], nids: list[int], types: list[int], own: int, parent: int) -> bytes:
    """Write a directory; the three lists, sorted by name and without dots, get them as well."""
    for dot, nid in zip(_DOTS, (own, parent), strict=True):
        place = bisect_left(names, dot)
        names.insert(place, dot)
        nids.insert(place, nid)
        types.insert(place, DIRECTORY_TYPE)
    packed: list[bytes] = []
    for begin, end in _cuts(names):
        if packed:
            packed[-1] = packed[-1].ljust(BLOCK_BYTES, b"\0")
        at = DIRENT.size * (end - begin)
        records = []
        for name, nid, type_ in zip(names[begin:end], nids[begin:end], types[begin:end], strict=True):
            records.append(DIRENT.pack(nid, at, type_))
            at += len(name)
        packed.append(b"".join((*records, *names[begin:end])))
    return b"".join(packed)


def _cuts(names: list[bytes]) -> Iterator[tuple[int, int]]:
    """Which names are together in a block."""
    begin = used = 0
    for place, name in enumerate(names):
        used += DIRENT.size + len(name)
        if used > BLOCK_BYTES:
            yield begin, place
            begin, used = place, DIRENT.size + len(name)
    yield begin, len(names)
