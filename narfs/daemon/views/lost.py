"""Views of the daemon before that could not be made again: listed with the reason, until somebody removes them.

Each has its place for itself: what it was may still lie there. It ends with its owner as if it were shown; a lease
begins anew with the loss, and nobody can renew it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from narfs.daemon.views.owner import Owner
from narfs.errors import OwnerGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from narfs.daemon.views.spec import ViewSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class LostView:
    """One of them. ``bound`` is where it was mounted; the next start tries it again."""

    name: str
    bound: Path
    why: str
    spec: ViewSpec | None
    """What it was to be; None: that cannot be read."""
    watching: trio.CancelScope = field(default_factory=trio.CancelScope)

    def facts(self) -> dict[str, object]:
        """Say where it would be, and why it is not."""
        spec = self.spec
        return {
            "name": self.name,
            "directory": str(self.bound),
            "frontend": "none",
            "frontend_because": f"it could not be made again: {self.why}",
            "closed": spec is not None and spec.selection.closed,
            **dict.fromkeys(("paths", "nar_bytes", "read_bytes", "fetched_bytes", "fetched_requests", "waiting"), 0),
            "age_s": 0.0,
            "owner_pid": spec and spec.owner_pid,
            "lease_s": spec and spec.lease_s,
            "profile": None,
            "stores": [],
        }


class LostViews:
    """All of them, by name. ``forget`` is called with the name of one whose owner is gone."""

    def __init__(self, nursery: trio.Nursery, forget: Callable[[str], Awaitable[None]]) -> None:
        self._nursery = nursery
        self._forget = forget
        self._views: dict[str, LostView] = {}

    def __iter__(self) -> Iterator[LostView]:
        return iter(self._views.values())

    def get(self, name: str) -> LostView | None:
        """Give the one of this name, if it is lost."""
        return self._views.get(name)

    def add(self, lost: LostView) -> None:
        """Keep one, for as long as it has its owner."""
        self._views[lost.name] = lost
        if lost.spec is not None and lost.spec.ends:
            self._nursery.start_soon(self._watch, lost, lost.spec)

    def discard(self, name: str) -> None:
        """Forget one: it was made after all, or removed."""
        if (lost := self._views.pop(name, None)) is not None:
            lost.watching.cancel()

    async def _watch(self, lost: LostView, spec: ViewSpec) -> None:
        with lost.watching:
            try:
                why = await Owner(spec.with_owner_known()).gone()
            except OwnerGone as error:
                why = str(error)
            except OSError as error:
                log.warning("view %s: its owner cannot be watched: %s", lost.name, error)
                return
        if not lost.watching.cancel_called:
            log.info("view %s: %s", lost.name, why)
            await self._forget(lost.name)  # with nothing awaited since: another may soon have its name
