"""What one View learns: its profile is brought when it is made, and what was read is kept when it ends.

A profile is a hint. Nothing that is wrong with one, or with the disk it is kept on, is anybody's failure.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from narfs.cache.profiles import Profiles
from narfs.daemon.profiles.naming import AUTO, NONE, name_of_members
from narfs.daemon.profiles.run import run_of
from narfs.daemon.profiles.stores import ask_for_profile
from narfs.engine.ahead.learning import continued, learned
from narfs.engine.ahead.replay import Replay
from narfs.errors import NarfsError, NotFound, UsageError
from narfs.formats import base32
from narfs.formats.profile_object import read_profile, write_profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from narfs.daemon.config import Config
    from narfs.daemon.erofs.frontend import Members
    from narfs.daemon.session import Session
    from narfs.engine.accessor import NarAccessor
    from narfs.engine.ahead.bringing import Allowance
    from narfs.engine.means import Described
    from narfs.formats.profile import Profile
    from narfs.mount.scene import Scene

log = logging.getLogger(__name__)

_DOMAIN_CHARS: Final = 8

_LEARN_S: Final = 10.0
"""For all Views of a daemon that ends, side by side: 100 of them at 0.2 s would be 20."""


def learner_of(  # noqa: PLR0917 - what a View is made of
    session: Session,
    config: Config,
    scene: Scene,
    members: Members,
    described: Iterable[Described],
    allowance: Allowance,
    *,
    name: str | None = None,
) -> Learner | None:
    """Give the learner of a View, or None if it is to learn nothing; ``name`` counts if ``config`` has none.

    UsageError if ``config`` has one and the View is open.
    """
    if config.profile not in {AUTO, NONE} and not scene.view.closed:
        raise UsageError(f"--profile {config.profile}: an open view learns nothing, for a profile names no hashes")
    if config.profile == NONE or not scene.view.closed or session.cache is None:
        return None
    found = _in_domain(session, name or _name_of(described)) if config.profile == AUTO else config.profile
    return None if found is None else Learner(session, found, scene, members, allowance)


class Learner:
    """Of one View. ``teach`` beside it, ``learn`` at its end."""

    def __init__(self, session: Session, name: str, scene: Scene, members: Members, allowance: Allowance) -> None:
        self.name = name
        self.goes_on = False
        """Whether the View was there before this process, which learned what it has read until then."""
        self._session = session
        self._scene = scene
        self._members = members
        self._allowance = allowance
        self._profiles = Profiles(session.config.cache_dir)
        self._from_store: Profile | None = None
        self._seen = 0

    async def teach(self) -> None:
        """Bring what the profile says, if there is one."""
        profile = await trio.to_thread.run_sync(self._kept)
        if profile is None:
            profile = self._from_store = await ask_for_profile(self._session, self.name)
        if profile is None:
            return
        replay = Replay(profile, self._members, self._new_reads)
        outcome = await replay.run(self._allowance)
        log.info("profile %s: %s after %d bytes", self.name, outcome, replay.asked_bytes)

    async def learn(self) -> None:
        """Keep what was read. Not to be cancelled, and over within 10 s, kept or not."""
        self._scene.reads.settle()
        with trio.move_on_after(_LEARN_S, shield=True) as scope:
            # In a thread although it is Python: 25 ms of it for 2000 files, 200 for 16 000.
            await trio.to_thread.run_sync(self._keep, abandon_on_cancel=True)
        if scope.cancelled_caught:
            log.warning("profile %s: not kept: it takes more than %.0f s", self.name, _LEARN_S)

    def _new_reads(self) -> Iterator[tuple[NarAccessor, int, int, bool]]:
        start, self._seen = self._seen, self._scene.reads.notes
        for read in self._scene.reads.first_reads(start):
            yield read.attachment.accessor, read.node, read.block, read.wanted  # type: ignore[misc]  # the View was made of NarAccessors

    def _kept(self) -> Profile | None:
        try:
            return read_profile(self._profiles.load(self.name), self.name)[1]
        except NotFound:
            return None
        except NarfsError as error:
            log.warning("profile %s: %s; it is learned anew", self.name, error)
            return None

    def _keep(self) -> None:
        before = self._kept() or self._from_store
        run = run_of(self._scene.view, self._scene.reads)
        after = continued(before, run) if self.goes_on else learned(before, run)
        if after is None or after == before:
            return
        try:
            self._profiles.keep(self.name, write_profile(self.name, after))
        except NarfsError as error:
            log.info("profile %s: not kept: %s", self.name, error)


def _name_of(described: Iterable[Described]) -> str | None:
    return name_of_members(one.narinfo for one in described)


def _in_domain(session: Session, name: str | None) -> str | None:
    """Keep apart what Views with stores of their own have learned: nobody else's View shall know of it."""
    apart = next(filter(None, session.domains.domains), None)
    return name if name is None or apart is None else f"{name}.{base32.encode(apart)[:_DOMAIN_CHARS]}"
