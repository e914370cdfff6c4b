"""Pages of a slab: EROFS has copied what it wanted into the pages of its files, and never asks for them again.

The mount option ``directio`` would leave none, but then each file is a read of its own: 12 k small files, cold, are
0.98 s and 12 000 reads instead of 0.37 s and 749. So they are dropped behind the reading, which costs nothing that
could be measured. What the kernel has read ahead and nobody has taken yet goes, too: up to 128 KiB for each reader and
turn, which come again from the cache.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from narfs.mount.slab import Slab

_EVERY_S: Final = 1.0


async def drop_leftovers(slab: Slab, path: Path, is_shown: Callable[[], bool]) -> None:
    """Drop the pages of a slab while ``is_shown``, after each second in which something of it was read."""
    dropped = 0
    while is_shown():
        await trio.sleep(_EVERY_S)
        if slab.read_bytes != dropped:
            # In a thread that nobody waits for at the end: opening it is a question to this process.
            with suppress(MemoryError, RuntimeError):  # there is none to be had: a second later, perhaps
                read_bytes = slab.read_bytes
                await trio.to_thread.run_sync(_drop, path, abandon_on_cancel=True)
                dropped = read_bytes


def _drop(path: Path) -> None:
    with suppress(OSError):  # it went away meanwhile, and its pages with it
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
