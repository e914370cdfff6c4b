"""A View that is shown: what its root answers, everything that somebody waits for in it, and what is read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from narfs.mount.reads import Reads
from narfs.mount.roots import Roots
from narfs.mount.waits import Waits

if TYPE_CHECKING:
    from narfs.formats.store_path import StorePath
    from narfs.mount.accessor import PathSource
    from narfs.mount.view import Attachment, View
    from narfs.mount.waits import Payer


class Watcher(Protocol):
    """Who wants to know what is read, while it is read."""

    def awaits(self, path: StorePath, node: int, /) -> None:
        """Hear that somebody waits for the beginning of a file. Must not wait."""

    def saw(self, path: StorePath, node: int, beginning: bytes, /) -> None:
        """Hear of the beginning of a file that somebody wanted; called for each read of it. Must not wait."""


class Scene:
    """One View; ``source`` is where an open one finds its paths, ``payer`` whom what is fetched for it is accounted.

    Deadlines bound one answer, not the work behind it: ``read_deadline_s`` what lies in a NAR, ``root_deadline_s`` a
    name in the root. Whoever shows it lets ``roots.learn_all`` end before, and ``roots.keep_trying`` run beside.
    """

    def __init__(
        self,
        view: View,
        source: PathSource | None = None,
        *,
        read_deadline_s: float = 120.0,
        root_deadline_s: float = 5.0,
        payer: Payer | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.view = view
        self.reads = Reads(trio.lowlevel.current_clock().current_time)
        self.waits = Waits(payer)
        self.roots = Roots(view, source, self.waits, deadline_s=root_deadline_s)
        self.read_deadline_s = read_deadline_s
        self.watcher = watcher

    def awaits(self, attachment: Attachment, node: int) -> None:
        """Tell who wants to know that somebody begins to wait for the beginning of a file."""
        if self.watcher is not None:
            self.watcher.awaits(attachment.path, node)

    def saw(self, attachment: Attachment, node: int, beginning: bytes) -> None:
        """Tell who wants to know that a file is read from its beginning on."""
        if self.watcher is not None:
            self.watcher.saw(attachment.path, node, beginning)
