"""A View that is shown: what its root answers, everything that somebody waits for in it, and what is read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from narfs.mount.reads import Reads
from narfs.mount.roots import Roots
from narfs.mount.waits import Waits

if TYPE_CHECKING:
    from narfs.mount.accessor import PathSource
    from narfs.mount.view import View
    from narfs.mount.waits import Payer


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
    ) -> None:
        self.view = view
        self.reads = Reads(trio.current_time)
        self.waits = Waits(payer)
        self.roots = Roots(view, source, self.waits, deadline_s=root_deadline_s)
        self.read_deadline_s = read_deadline_s
