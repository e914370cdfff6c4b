"""A View that is shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.daemon.ahead import Ahead
    from narfs.daemon.erofs.frontend import Choice
    from narfs.daemon.erofs.shown import Shown
    from narfs.daemon.known_paths import KnownPaths
    from narfs.daemon.session import Session
    from narfs.daemon.views.owner import Owner
    from narfs.daemon.views.spec import ViewSpec
    from narfs.lake.account import Account
    from narfs.mount.scene import Scene


@dataclass(slots=True, eq=False)
class KeptView:
    """A View that is shown; ``directory`` is where programs find it."""

    spec: ViewSpec
    scene: Scene
    session: Session
    account: Account
    directory: Path
    owner: Owner
    known: KnownPaths
    choice: Choice
    ahead: Ahead
    bound: Path | None = None
    """Where it is mounted."""
    shown: Shown | None = None
    """What the kernel shows there, if it is EROFS that does."""
    created: float = field(default_factory=time.time)
    removing: trio.Lock = field(default_factory=trio.Lock)
    running: trio.CancelScope = field(default_factory=trio.CancelScope)
    answering: trio.CancelScope = field(default_factory=trio.CancelScope)
    teaching: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.spec.name

    def facts(self) -> dict[str, object]:
        """Say what it is, for people and programs."""
        view = self.scene.view
        return {
            "name": self.spec.name,
            "directory": str(self.directory),
            "frontend": self.choice.frontend.value,
            "frontend_because": self.choice.why,
            "closed": view.closed,
            "paths": len(view.attachments),
            "nar_bytes": sum(each.accessor.nar_size for each in view.attachments),
            "read_bytes": self.scene.reads.asked_bytes,
            "fetched_bytes": self.account.received_bytes,
            "fetched_requests": self.account.requests,
            "waiting": len(self.scene.waits),
            "age_s": round(time.time() - self.created, 3),
            "owner_pid": self.spec.owner_pid,
            "lease_s": self.spec.lease_s,
            "profile": self.ahead.profile,
            "stores": [str(lake.url) for lake in self.session.lakes.lakes],
        }
