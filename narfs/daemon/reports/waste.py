"""What was fetched of one blob and never read: fetched ahead, or because it was in one frame with something wanted.

A blob is counted by the parts that can be fetched by themselves, frames or chunks: one of which anything was read is
not wasted. Of a blob that has none, that share is wasted which its unread bytes have in the NAR.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from narfs.formats.index import NarIndex
    from narfs.offsets import NarSpan

_UNREAD: Final = re.compile(rb"\0+")


def wasted_bytes(index: NarIndex, compression: str, fetched: Iterable[tuple[int, int]], read: Iterable[NarSpan]) -> int:
    """Count the bytes of the blob; ``fetched`` are bytes of it, ``read`` those of the NAR."""
    nar, blob = _bounds(index, compression)
    if nar is None:
        share = sum(span.length for span in read) / max(index.nar_size, 1)
        return round(sum(end - start for start, end in fetched) * max(0.0, 1 - share))
    touched = bytearray(len(nar) - 1)
    for span in read:
        first, end = bisect_right(nar, span.start) - 1, bisect_left(nar, span.end)
        touched[first:end] = b"\1" * (end - first)
    wasted = 0
    for start, end in fetched:
        first, last = max(bisect_right(blob, start) - 1, 0), bisect_left(blob, end)
        for unread in _UNREAD.finditer(touched, first, last):
            wasted += min(blob[unread.end()], end) - max(blob[unread.start()], start)
    return wasted


def _bounds(index: NarIndex, compression: str) -> tuple[Sequence[int] | None, Sequence[int]]:
    """Give where the parts begin and end, in the NAR and in the blob; None: it has no parts."""
    if compression == "none":
        grid = index.grid
        begins = range(0, grid.nar_size, grid.chunk_bytes) if grid.cuts is None else grid.cuts
        bounds = array("Q", [*begins, grid.nar_size])
        return bounds, bounds
    frames = index.frames
    if frames is None or frames.compression != compression:
        return None, ()
    return frames.nar_bounds, frames.blob_bounds
