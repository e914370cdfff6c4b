"""What is fetched for one View before anybody asks for it: what its profile says, and what files say that are read.

Both are paid from one allowance (``prefetch-bytes``), and end with the View.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from narfs.daemon.profiles.learner import learner_of
from narfs.engine.ahead.bringing import Allowance
from narfs.engine.ahead.mentions import Mentions
from narfs.engine.ahead.quietly import quietly
from narfs.engine.ahead.sight import Sight
from narfs.errors import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from narfs.daemon.config import Config
    from narfs.daemon.erofs.frontend import Members
    from narfs.daemon.session import Session
    from narfs.engine.means import Described
    from narfs.mount.scene import Scene


class Ahead:
    """Of one View; ``name`` is what its profile is called if nothing else says so. UsageError as ``learner_of``."""

    def __init__(  # noqa: PLR0917 - what a View is made of
        self,
        session: Session,
        config: Config,
        scene: Scene,
        members: Members,
        described: Iterable[Described],
        name: str | None = None,
    ) -> None:
        self.allowance = Allowance(config.prefetch_bytes.bytes)
        self._learner = learner_of(session, config, scene, members, described, self.allowance, name=name)
        self._session = session
        self._scene = scene
        self._members = members
        self._begin, self._begun = trio.open_memory_channel["Callable[[], Awaitable[None]]"](math.inf)

    @property
    def profile(self) -> str | None:
        """The name of the profile that it learns from and for."""
        return None if self._learner is None else self._learner.name

    def go_on(self) -> None:
        """Note that the View was there before this process, which learned what was read until then."""
        if self._learner is not None:
            self._learner.goes_on = True

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start what somebody wants to be done for the View; it ends with it, which pays. Closing: it has ended."""
        try:
            self._begin.send_nowait(work)
        except trio.BrokenResourceError:
            raise Closing("the view has ended") from None

    async def run(self) -> None:
        """Bring what is going to be read, as far as that is known, and do what was started; ends by cancellation."""
        async with self._begun, trio.open_nursery() as nursery:
            nursery.start_soon(self._bring)
            async for work in self._begun:
                nursery.start_soon(work)

    async def _bring(self) -> None:
        """Bring what is going to be read, as far as that is known.

        What files say is not listened to before all that a profile says was brought: it knows better, and reading
        Python and ELF took a third of the daemon's time in a start (0.41 s of processor, now 0.30; benchmark b1).
        """
        if self._learner is not None:
            await quietly(self._learner.teach)
        if self._session.cache is not None and self.allowance.left != 0:
            store = self._session.store
            sight = Sight(self._members, None if self._scene.view.closed else store.find)
            self._scene.watcher = mentions = Mentions(sight, self.allowance, store.means.counters)
            await mentions.run()

    async def end(self) -> None:
        """Keep what was read, for the next View; not to be cancelled."""
        if self._learner is not None:
            await quietly(self._learner.learn)


@asynccontextmanager
async def running(ahead: Ahead) -> AsyncIterator[None]:
    """Run it beside the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ahead.run)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            await ahead.end()
