"""The Views of a daemon: made, listed, removed, and made again after a restart.

What is to be is written to disk before whoever asked for it hears that it is (``records``). A View that ends takes its
record with it; a daemon that ends leaves them, and the next one makes the same Views again. What EROFS shows may still
be there then, with programs in it that wait: its slab is laid again, and they go on.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
from narfs.daemon.views.kept import KeptView
from narfs.daemon.views.lost import LostView, LostViews
from narfs.daemon.views.owner import Owner
from narfs.errors import Closing, NarfsError, NotFound, OwnerGone, Unavailable, UsageError
from narfs.mount.mountpoint import find, real
from narfs.mount.options import MountOptions
from narfs.mount.scene import Scene
from narfs.mount.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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

_ORPHAN_AGAIN_S: Final = 60.0


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
        self._lost = LostViews(nursery, self._remove_orphan)
        self._making: set[str] = set()
        """Names and places."""
        self._closing = False

    @property
    def kept(self) -> list[KeptView]:
        """Those that are shown."""
        return list(self._kept.values())

    @property
    def _all(self) -> list[KeptView | LostView]:
        return [*self._kept.values(), *self._lost]

    def facts(self) -> list[dict[str, object]]:
        """Say of each what it is, also of those that could not be made again."""
        return [view.facts() for view in self._all]

    async def create(self, spec: ViewSpec) -> KeptView:
        """Make a View and give it when it is usable; UsageError, NotFound naming what no store has, Unavailable."""
        with self._claimed(spec.name, None if spec.at is None else await real(spec.at)):
            kept = await self._make(spec)
        self._lost.discard(spec.name)
        return kept

    @contextmanager
    def _claimed(self, name: str, at: Path | None) -> Iterator[None]:
        """Have a name and a place for oneself: of two mounts on one place the first to go would take the other's."""
        wanted = {name} if at is None else {name, str(at)}
        if name in self._kept:
            raise UsageError(f"there is a view named {name} already")
        if name in self._making:
            raise UsageError(f"view {name}: is being made or removed just now")
        if taken := wanted & self._making:
            raise UsageError(f"{min(taken)}: another view is being made there")
        for view in self._all:
            if view.name != name and at is not None and view.bound == at:
                raise UsageError(f"{at}: is the place of view {view.name}; narfs view remove {view.name}")
        self._making |= wanted
        try:
            yield
        finally:
            self._making -= wanted

    async def remove(self, name: str, *, lazily: bool = False) -> Report:
        """End a View and tell what was read of it; UsageError if something is in it or over it, unless ``lazily``."""
        if (lost := self._lost.get(name)) is not None:
            return await self._forget(lost)
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
            self._records.remove(name)  # where that fails it is still listed, and can be removed again
            del self._kept[name]
        kept.running.cancel()
        await self._learn(kept)
        await self._put_away(kept)
        log.info("view %s: removed; read %d bytes of %d paths", name, told.read_bytes, told.read_paths)
        return told

    async def _forget(self, lost: LostView) -> Report:
        """Remove one that could not be made again, of which nothing was read."""
        name = lost.name
        with self._claimed(name, None):
            await place.take_off(name, lost.bound, lazily=True)
            self._records.remove(name)
            self._lost.discard(name)
        log.info("view %s: removed; it could not be made again", name)
        return await report(name, Scene(View.of([])), None)

    def named(self, name: str) -> KeptView:
        """Give one that is shown; NotFound, Unavailable saying why it could not be made again."""
        if (kept := self._kept.get(name)) is not None:
            return kept
        if (lost := self._lost.get(name)) is not None:
            raise Unavailable(f"view {name} could not be made again: {lost.why}")
        raise NotFound(f"there is no view named {name}; narfs view list tells which there are")

    async def restore(self) -> list[str]:
        """Make the Views of the daemon before; give a line for each that cannot be: the next start tries it again."""
        async with trio.open_nursery() as nursery:
            for name in self._records.names():
                nursery.start_soon(self._restore, name)
        return [f"view {lost.name}: {lost.why}" for lost in self._lost]

    async def _restore(self, name: str) -> None:
        """Make one again; whatever goes wrong with it, the others are made."""
        at, spec = self._own / name, None
        try:
            spec = await trio.to_thread.run_sync(self._records.read, name)
            if spec.at is not None:
                at = spec.at  # as it was said, if it cannot be found
                at = await find(at)
            with self._claimed(name, at):
                await self._make_again(spec, at)
        except OwnerGone:  # nobody misses it
            with suppress(Unavailable):
                self._records.remove(name)
        except (NarfsError, ValueError, OSError) as error:
            self._lost.add(LostView(name, at, str(error), spec))
        except Exception as error:
            log.exception("view %s: a bug in narfs", name)
            self._lost.add(LostView(name, at, f"a bug in narfs: {error!r}", spec))

    async def _make_again(self, spec: ViewSpec, at: Path) -> None:
        shown = self._records.shown(spec.name)
        if shown is not None and self._images.still_shows(shown):
            try:
                await self._make(spec, shown)
            except OwnerGone:
                await place.unbind(Path(shown.place), lazily=True)
                raise
            except NarfsError as error:
                log.warning("view %s: %s; programs that have it open lose it", spec.name, error)
            else:
                return
        await place.clear(at)
        await self._make(spec)

    async def close(self) -> None:
        """Take all Views off their places and keep what is to be restored; nobody is asked whether he is in one.

        What EROFS shows stays where it is if that was left to the next process.
        """
        self._closing = True
        for end in (self._leave_place, self._learn):
            async with trio.open_nursery() as nursery:
                for kept in self.kept:
                    nursery.start_soon(end, kept)

    async def _leave_place(self, kept: KeptView) -> None:
        if kept.bound is not None and not (kept.shown and self._images.left):
            try:
                await self._take_off(kept.spec, kept.bound, lazily=True)
            except NarfsError as error:
                log.warning("view %s: %s", kept.name, error)
        kept.running.cancel()

    async def _make(self, spec: ViewSpec, shown: Shown | None = None) -> KeptView:
        """Make a View; what the kernel still shows of it, ``shown``, is gone on with."""
        if self._closing:
            raise Closing("the daemon is going away")
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
        log.info("view %s: %d paths at %s", spec.name, len(kept.scene.view.attachments), kept.directory)
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
            on_tree = foresees(config, self._images)
            members = await session.members(spec.selection, unseal=True, on_tree=on_tree)
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
        """Remove one that has lost its owner, again and again until it is gone; not another that has its name then."""
        orphan = self._of_name(name)
        while orphan is not None and self._of_name(name) is orphan:
            try:
                await self.remove(name, lazily=True)
            except (NarfsError, OSError) as error:
                log.warning("view %s: %s", name, error)
                await trio.sleep(_ORPHAN_AGAIN_S)

    def _of_name(self, name: str) -> KeptView | LostView | None:
        return self._kept.get(name) or self._lost.get(name)

    async def _put_away(self, kept: KeptView) -> None:
        kept.answering.cancel()
        if kept.shown is not None:
            self._images.take_off(kept.shown)
        await self._stage.remove(kept.spec.name.encode())
        self._sessions.give_back(kept.session)
