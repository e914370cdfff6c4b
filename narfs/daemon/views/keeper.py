"""The Views of a daemon: made, listed, removed, and made again after a restart.

What is to be is written to disk before whoever asked for it hears that it is (``records``). A View that ends takes its
record with it; a daemon that ends leaves them, and the next one makes the same Views again. What EROFS shows may still
be there then, with programs in it that wait: its slab is laid again, and they go on.
"""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from narfs.daemon import overlays
from narfs.daemon.ahead import Ahead
from narfs.daemon.config import Frontend
from narfs.daemon.directories import private_directory
from narfs.daemon.erofs.frontend import Choice, choose, foresees, settle
from narfs.daemon.known_paths import ClosedSet, OpenSet
from narfs.daemon.nix_socket import serving_nix
from narfs.daemon.reports.report import report
from narfs.daemon.views import place
from narfs.daemon.views.owner import Owner
from narfs.errors import Closing, NarfsError, NotFound, OwnerGone, Unavailable, UsageError
from narfs.mount.mountpoint import real
from narfs.mount.options import MountOptions
from narfs.mount.scene import Scene
from narfs.mount.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from narfs.daemon.config import Config
    from narfs.daemon.erofs.images import Images
    from narfs.daemon.erofs.shown import Shown
    from narfs.daemon.known_paths import KnownPaths
    from narfs.daemon.reports.report import Report
    from narfs.daemon.session import Session
    from narfs.daemon.views.records import Records
    from narfs.daemon.views.sessions import Sessions
    from narfs.daemon.views.spec import ViewSpec
    from narfs.lake.account import Account
    from narfs.mount.fuse import Stage

log = logging.getLogger(__name__)


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


class Views:
    """All of them, on one stage that is mounted at ``home``. ``config`` gives what Views have in common, as of now.

    Views that EROFS shows, and that are wanted nowhere, are mounted in ``own``.
    """

    def __init__(
        self,
        stage: Stage,
        sessions: Sessions,
        *,
        home: Path,
        own: Path,
        records: Records,
        images: Images,
        nursery: trio.Nursery,
        config: Callable[[], Config],
    ) -> None:
        self._stage = stage
        self._home = home
        self._own = own
        self._images = images
        self._sessions = sessions
        self._records = records
        self._nursery = nursery
        self._config = config
        self._kept: dict[str, KeptView] = {}
        self._making: set[str] = set()
        self._closing = False

    @property
    def kept(self) -> list[KeptView]:
        """Those that are shown."""
        return list(self._kept.values())

    async def create(self, spec: ViewSpec, shown: Shown | None = None) -> KeptView:
        """Make a View and give it when it is usable; UsageError, NotFound naming what no store has, Unavailable.

        What the kernel still shows of it, ``shown``, is gone on with.
        """
        # Two mounts on one place would lie upon each other, and the first to go would take the other's.
        wanted = {spec.name} if spec.at is None else {spec.name, str(await real(spec.at))}
        if self._closing:
            raise Closing("the daemon is going away")
        if spec.name in self._kept or spec.name in self._making:
            raise UsageError(f"there is a view named {spec.name} already")
        if taken := wanted & self._making:
            raise UsageError(f"{min(taken)}: another view is being made there")
        self._making |= wanted
        try:
            kept = await self._make(spec, shown)
        finally:
            self._making -= wanted
        log.info("view %s: %d paths at %s", spec.name, len(kept.scene.view.attachments), kept.directory)
        return kept

    async def remove(self, name: str, *, lazily: bool = False) -> Report:
        """End a View and tell what was read of it; UsageError if something is in it or over it, unless ``lazily``."""
        kept = self.named(name)
        async with kept.removing:  # once: a second unmount would take what lay there before
            if self._kept.get(name) is not kept:
                raise NotFound(f"view {name} was removed by somebody else")
            if not lazily:
                await trio.to_thread.run_sync(overlays.check_bare, name, str(kept.directory))
            if kept.bound is not None:
                await self._take_off(kept.spec, kept.bound, lazily=lazily)
                kept.bound = None
            told = await report(name, kept.scene, kept.account)
            del self._kept[name]
        self._records.remove(name)
        kept.running.cancel()
        await self._learn(kept)
        await self._put_away(kept)
        log.info("view %s: removed; read %d bytes of %d paths", name, told.read_bytes, told.read_paths)
        return told

    def named(self, name: str) -> KeptView:
        """Give one; NotFound."""
        try:
            return self._kept[name]
        except KeyError:
            raise NotFound(f"there is no view named {name}; narfs view list tells which there are") from None

    async def restore(self) -> list[str]:
        """Make the Views of the daemon before; give a line for each that cannot be: the next start tries it again."""
        trouble: list[str] = []

        async def again(name: str) -> None:
            try:
                await self._restore(await trio.to_thread.run_sync(self._records.read, name))
            except OwnerGone:  # nobody misses it
                self._records.remove(name)
            except (NarfsError, ValueError, OSError) as error:
                trouble.append(f"view {name}: {error}")

        async with trio.open_nursery() as nursery:
            for name in self._records.names():
                nursery.start_soon(again, name)
        return trouble

    async def _restore(self, spec: ViewSpec) -> None:
        shown = self._records.shown(spec.name)
        if shown is not None and self._images.still_shows(shown):
            try:
                await self.create(spec, shown)
            except OwnerGone:
                await place.unbind(Path(shown.place), lazily=True)
                raise
            except NarfsError as error:
                log.warning("view %s: %s; programs that have it open lose it", spec.name, error)
            else:
                return
        await place.clear(spec.at or self._own / spec.name)
        await self.create(spec)

    async def close(self) -> None:
        """Take all Views off their places and keep what is to be restored; nobody is asked whether he is in one.

        What EROFS shows stays where it is if that was left to the next process.
        """
        self._closing = True
        for kept in self.kept:
            if kept.bound is not None and not (kept.shown and self._images.left):
                try:
                    await self._take_off(kept.spec, kept.bound, lazily=True)
                except NarfsError as error:
                    log.warning("view %s: %s", kept.spec.name, error)
            kept.running.cancel()
            await self._learn(kept)

    async def _make(self, spec: ViewSpec, shown: Shown | None) -> KeptView:
        spec = spec.with_owner_known()
        owner = Owner(spec)
        async with AsyncExitStack() as undo:
            undo.callback(owner.close)
            common = self._config()
            config = spec.config(common)
            session = await self._sessions.take(config.of_all, common.of_all)
            undo.callback(self._sessions.give_back, session)
            own = config.bandwidth if "bandwidth" in spec.settings else None
            account = session.household.account(f"view {spec.name}", config, bandwidth=own)
            with account.paying():
                scene, known, choice, ahead = await self._scene(spec, config, session, account, shown)
            self._stage.show(spec.name.encode(), scene)
            undo.push_async_callback(self._stage.remove, spec.name.encode())
            kept = KeptView(spec, scene, session, account, self._home / spec.name, owner, known, choice, ahead)
            undo.callback(kept.teaching.cancel)
            self._nursery.start_soon(self._teach, kept)
            if shown is not None:
                await self._images.lay_again(shown, scene)
                kept.shown, kept.directory = shown, Path(shown.place)
                kept.bound = kept.directory
                kept.ahead.go_on()
            elif choice.frontend is Frontend.EROFS:
                await self._show_by_erofs(kept, wanted=config.frontend is Frontend.EROFS)
            if kept.bound is None and spec.at is not None:
                kept.directory = kept.bound = await place.bind(kept.directory, spec.at)
            if kept.shown is not None:
                undo.callback(self._images.take_off, kept.shown)
            if kept.bound is not None:
                undo.push_async_callback(partial(self._take_off, spec, kept.bound, lazily=True))
            undo.callback(kept.answering.cancel)
            await self._nursery.start(self._answer_nix, kept)
            await trio.to_thread.run_sync(self._records.write, spec, kept.shown)
            undo.pop_all()
        self._kept[spec.name] = kept
        self._nursery.start_soon(self._run, kept)
        return kept

    async def _show_by_erofs(self, kept: KeptView, *, wanted: bool) -> None:
        """Mount an image; if that cannot be written or mounted, ``tree`` has to do, unless it is ``wanted``."""
        spec = kept.spec
        at = spec.at or private_directory(self._own / spec.name)
        try:
            kept.shown = await self._images.mount(spec.name, kept.scene, at)
            kept.directory = kept.bound = Path(kept.shown.place)
        except Unavailable as error:
            if wanted:
                raise
            log.warning("view %s: %s; shown by tree instead", spec.name, error)
            kept.choice = Choice(Frontend.TREE, str(error))

    async def _scene(
        self, spec: ViewSpec, config: Config, session: Session, account: Account, shown: Shown | None
    ) -> tuple[Scene, KnownPaths, Choice, Ahead]:
        known: KnownPaths = OpenSet(session.store)
        if not spec.selection.closed:
            choice = await choose(config, None, self._images)
            view = View.beside_others(self._stage.inodes, closed=False)
            members, accessors = [], []
        else:
            foresee = await foresees(config, self._images)
            members = await session.members(spec.selection, unseal=True, on_tree=foresee)
            accessors = await session.accessors(members)
            choice = Choice(Frontend.EROFS, "it is still there, from before the daemon was started again")
            if shown is None:
                choice = await choose(config, accessors, self._images)
            else:
                await settle(accessors)
            view = View.of(accessors, inodes=self._stage.inodes)
            known = ClosedSet(one.narinfo for one in members)
        scene = Scene(
            view,
            None if view.closed else session.store,
            read_deadline_s=session.config.read_deadline_s,
            root_deadline_s=session.config.root_lookup_deadline_s,
            payer=account,
        )
        await scene.roots.learn_all()
        return scene, known, choice, Ahead(session, config, scene, accessors, members, spec.profile)

    async def _take_off(self, spec: ViewSpec, bound: Path, *, lazily: bool) -> None:
        await place.take_off(spec.name, bound, lazily=lazily)
        if spec.at is None:
            with suppress(OSError):  # its directory is in nobody's way
                bound.rmdir()  # noqa: ASYNC240 - no longer served by us

    async def _answer_nix(self, kept: KeptView, task_status: trio.TaskStatus[None]) -> None:
        """Tell Nix what the View shows; everybody if the View is where everybody can see it."""
        shared = kept.spec.at is not None and MountOptions.for_this_user().allow_other
        with kept.answering, kept.account.paying():
            async with serving_nix(kept.spec.nix_socket, kept.known, shared=shared):
                task_status.started()
                await trio.sleep_forever()

    async def _teach(self, kept: KeptView) -> None:
        """Bring what is going to be read, as far as that is known."""
        with kept.teaching, kept.account.paying():
            await kept.ahead.run()

    @staticmethod
    async def _learn(kept: KeptView) -> None:
        """Keep what was read, for the next one."""
        kept.teaching.cancel()
        await kept.ahead.end()

    async def _run(self, kept: KeptView) -> None:
        """Do what a View needs while it is there; end it with its owner."""
        with kept.running:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kept.scene.roots.keep_trying)
                why = await kept.owner.gone()
                nursery.cancel_scope.cancel()
            log.info("view %s: %s", kept.spec.name, why)
            self._nursery.start_soon(self._remove_orphan, kept.spec.name)

    async def _remove_orphan(self, name: str) -> None:
        try:
            await self.remove(name, lazily=True)
        except NarfsError as error:
            log.warning("view %s: %s", name, error)

    async def _put_away(self, kept: KeptView) -> None:
        kept.answering.cancel()
        if kept.shown is not None:
            self._images.take_off(kept.shown)
        await self._stage.remove(kept.spec.name.encode())
        self._sessions.give_back(kept.session)
