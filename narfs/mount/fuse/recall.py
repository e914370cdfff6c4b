"""Pages of a NAR that was shown before it was verified, and then turned out to be bad, are taken back from the kernel.

Only under ``--verify progressive``. Whoever holds such a file open gets EIO for what he reads from then on; what a
program has already read, nobody can take back.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import pyfuse3
import trio

from narfs.errors import Corrupt, FormatError, NarfsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfuse3 import InodeT

    from narfs.mount.accessor import Accessor

_log = logging.getLogger(__name__)


class Recall:
    """The files opened of NARs that are still passing. ``run`` it beside the session."""

    def __init__(self) -> None:
        self._opened: dict[Accessor, set[InodeT]] = {}
        self._new, self._to_watch = trio.open_memory_channel["Accessor"](math.inf)  # at most one for each NAR

    def note(self, accessor: Accessor, inode: InodeT) -> None:
        """Note that a file was opened before its NAR was verified."""
        if accessor not in self._opened:
            self._opened[accessor] = set()
            self._new.send_nowait(accessor)
        self._opened[accessor].add(inode)

    async def run(self) -> None:
        """Watch the NARs of noted files until cancelled."""
        async with trio.open_nursery() as nursery:
            async for accessor in self._to_watch:
                nursery.start_soon(self._watch, accessor)

    async def _watch(self, accessor: Accessor) -> None:
        try:
            await accessor.settle()
        except NarfsError as error:
            inodes = self._opened.pop(accessor)  # who opens a file from now on reads what another pass brings
            # Also if the pass broke off: nobody has compared what was read, and the next one may bring something else.
            if isinstance(error, (Corrupt, FormatError)):
                _log.warning("taking back the pages of %d files that are not what was promised", len(inodes))
            # In a thread: from the event loop the kernel and this process could wait for each other for ever.
            await trio.to_thread.run_sync(_invalidate, inodes)
        else:
            del self._opened[accessor]


def _invalidate(inodes: Iterable[InodeT]) -> None:
    for inode in inodes:
        try:
            pyfuse3.invalidate_inode(inode)
        except OSError as error:  # the kernel has forgotten it, and its pages with it
            _log.debug("inode %d: %s", inode, error)
