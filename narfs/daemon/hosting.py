"""``narfs daemon``: many Views in one process, made and removed over the control socket.

::

    RUNTIME/control.sock         who may connect, its mode says; who may do what, the peer's user
    RUNTIME/private/stage        the FUSE mount: a directory for each View, entered by root only
    RUNTIME/private/slabs        the slabs under those that EROFS shows
    RUNTIME/private/erofs/NAME   a View that EROFS shows, if it is wanted nowhere else
    STATE/images                 what EROFS shows, until it is mounted
    STATE/views/NAME.json        what to make again after a restart

It is built of what ``narfs mount`` is built of; the difference is that nothing is on its stage when the curtain rises.
"""

from __future__ import annotations

import gc
import grp
import logging
import os
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from narfs.daemon import control, event_loop, fd_store, status
from narfs.daemon.caching import operations as cache_operations
from narfs.daemon.caching.pinning import Pinning
from narfs.daemon.control_server import Operation, listening
from narfs.daemon.directories import private_directory, socket_directory
from narfs.daemon.erofs.images import open_images
from narfs.daemon.event_loop import most_telling
from narfs.daemon.prefetching.jobs import Jobs
from narfs.daemon.prefetching.operations import accessors_of
from narfs.daemon.prefetching.operations import operations as prefetch_operations
from narfs.daemon.readiness import notify_systemd
from narfs.daemon.serving import give_up_privileges, take_all_descriptors
from narfs.daemon.session import open_household
from narfs.daemon.views import operations as view_operations
from narfs.daemon.views.keeper import Views
from narfs.daemon.views.records import Records
from narfs.daemon.views.sessions import Sessions
from narfs.errors import NarfsError, Unavailable, UsageError
from narfs.mount.fuse import Stage, serve_mount
from narfs.mount.mounted import STAGE_SOURCE, mount_at
from narfs.mount.mountpoint import detach
from narfs.mount.options import MountOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
    from pathlib import Path

    from narfs.daemon.config import Config
    from narfs.daemon.control_server import Do
    from narfs.daemon.erofs.images import Images
    from narfs.daemon.prefetching.jobs import JobFacts
    from narfs.daemon.readiness import Announcer
    from narfs.daemon.selection import Selection
    from narfs.daemon.session import Household, Session
    from narfs.mount.fuse import Handlers

log = logging.getLogger(__name__)

_SLABS: Final = "slabs"

_LOOK_ONLY = frozenset({"status", "view-list", "view-report", "cache-status"})


@dataclass(frozen=True, slots=True)
class DaemonTask:
    """What a daemon is for. ``load`` reads the configuration, again when it is told to reload."""

    load: Callable[[], Config]
    runtime: Path
    state: Path
    environ: MutableMapping[str, str]
    group: int = -1
    """Members of this group may connect, and look; -1: nobody but the user himself."""

    @property
    def socket(self) -> Path:
        """Where the daemon is asked; Unavailable if that is too long a path."""
        return control.checked(self.runtime / control.DAEMON_SOCKET)


def group_of(name: str | None) -> int:
    """Give the number of a group; -1 for none, UsageError if there is none of that name."""
    if name is None:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"--group: there is no group {name}") from None


def run(task: DaemonTask, announcer: Announcer) -> None:
    """Serve in an event loop of one's own."""
    take_all_descriptors()
    if task.group not in (-1, *os.getgroups()) and os.geteuid() == 0:
        os.setgroups([*os.getgroups(), task.group])  # whoever is in a group may give it the socket
    give_up_privileges()
    event_loop.run_service(partial(serve, task, announcer))


async def serve(task: DaemonTask, announcer: Announcer) -> None:
    """Serve until SIGTERM or SIGINT."""
    daemon = _Daemon(task)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.hear_signals, nursery.cancel_scope)
        await daemon.serve(announcer)
        nursery.cancel_scope.cancel()


class _Daemon:
    def __init__(self, task: DaemonTask) -> None:
        self._task = task
        self._config = task.load()
        self._started = time.time()
        self._handlers: Handlers | None = None
        self._images: Images | None = None
        self._handed_over = False
        """Whether somebody keeps the descriptor of the slabs."""
        self._told_to_end = False

    async def hear_signals(self, serving: trio.CancelScope) -> None:
        """End, or read the configuration again."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._reload()
                    continue
                log.info("%s: ending", signal.Signals(number).name)
                self._told_to_end = True
                notify_systemd("STOPPING=1", self._task.environ)
                if self._handed_over and await fd_store.restarting(self._task.environ):
                    self._leave_images()
                serving.cancel()
                return

    def _leave_images(self) -> None:
        if self._images is not None and self._handed_over:
            log.info("what EROFS shows is left to the daemon that comes after")
            self._images.leave()

    async def serve(self, announcer: Announcer) -> None:
        """Open everything, make the Views that are kept on disk, and serve."""
        task = self._task
        home = await self._home()
        for directory in (task.state, task.state / "views"):
            private_directory(directory)
        async with (
            open_household(self._config, if_held="refuse") as household,
            open_images(
                household, task.state / "images", home.parent / "slabs", of_daemon=True, on_mount=self._keep
            ) as images,
            trio.open_nursery() as work,
        ):
            self._images = images
            if (fd := fd_store.kept(_SLABS, task.environ)) is not None:
                self._handed_over = images.adopt(fd)
                if not self._handed_over:  # whoever has a file open would wait for ever while somebody has it
                    fd_store.forget(_SLABS, task.environ)
            stage = Stage(owner=(os.geteuid(), os.getegid()))
            sessions = Sessions(household, work)
            views = Views(
                stage,
                sessions,
                home=home,
                own=home.parent / "erofs",
                images=images,
                records=Records(task.state / "views"),
                nursery=work,
                config=lambda: self._config,
            )
            restored = trio.Event()
            operations = {
                name: Operation(_as_json(do), for_everybody=name in _LOOK_ONLY)
                for name, do in {
                    "status": self._status(household, views, sessions),
                    **_after(restored, view_operations.operations(views)),
                    **self._cache_operations(household, sessions, views, work),
                }.items()
            }
            mode = 0o600 if task.group < 0 else 0o660

            async def open_doors(handlers: Handlers) -> None:
                self._handlers = handlers
                warnings = await views.restore()
                await images.all_laid()
                restored.set()
                for warning in warnings:
                    log.warning("%s", warning)
                work.start_soon(images.trouble)  # and what the first image, or pass, would wait for: an interpreter
                household.workers.warm_up()
                work.start_soon(_feed_watchdog, task.environ)
                gc.freeze()
                log.info("serving %d views; asked at %s", len(views.kept), task.socket)
                announcer.ready([*warnings, *([household.cache_trouble] if household.cache_trouble else [])])

            try:
                async with listening(task.socket, operations, mode=mode, group=task.group):
                    await serve_mount(
                        stage,
                        home,
                        options=MountOptions.for_this_user(source=STAGE_SOURCE),
                        on_ready=lambda handlers: work.start_soon(open_doors, handlers),
                    )
            except BaseException as error:
                nobody_starts_it_again = isinstance(most_telling(error), UsageError)
                if not (self._told_to_end or nobody_starts_it_again):
                    self._leave_images()
                raise
            finally:
                with trio.CancelScope(shield=True):
                    await views.close()
            work.cancel_scope.cancel()

    async def _home(self) -> Path:
        """Make the directory of the one mount; UsageError if another daemon has it."""
        runtime = socket_directory(self._task.runtime)
        if self._task.socket.exists():
            try:
                await trio.to_thread.run_sync(control.ask, self._task.socket, "status")
            except NarfsError as error:
                if self._task.socket.exists():  # else its process was gone: then asking removes it
                    raise UsageError(f"{error}; a daemon of narfs is there that has to end first") from error
            else:
                raise UsageError(f"{self._task.socket}: a daemon of narfs answers there already")
        home = private_directory(runtime / "private") / "stage"
        private_directory(home.parent / "erofs")
        real = os.path.realpath(home.parent)  # noqa: ASYNC240
        if mount_at(f"{real}/{home.name}") is not None:
            await detach(home)  # of a daemon that was killed
        home.mkdir(exist_ok=True)
        return home

    def _keep(self, fd: int) -> None:
        """Have the service manager keep the descriptor of the slabs, so that a restart hurts nobody who reads them."""
        self._handed_over = fd_store.keep(fd, _SLABS, self._task.environ)

    def _reload(self) -> None:
        """Take a new configuration for the Views to come; those that are there keep theirs."""
        environ = self._task.environ
        notify_systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", environ)
        try:
            self._config = self._task.load()
        except NarfsError as error:
            log.error("reload: %s; going on with the configuration of before", error)  # noqa: TRY400
        else:
            log.info("configuration read again; it counts for new views")
        notify_systemd("READY=1", environ)

    def _cache_operations(
        self, household: Household, sessions: Sessions, views: Views, work: trio.Nursery
    ) -> cache_operations.Operations:
        """Give what is offered of the cache, and keep what is pinned there complete."""
        if household.cache is None:
            return {}

        @asynccontextmanager
        async def session() -> AsyncIterator[Session]:
            own = self._config.of_all
            taken = await sessions.take(own, own)
            try:
                yield taken
            finally:
                sessions.give_back(taken)

        jobs = Jobs(household.cache)
        unbounded = self._config.of_all  # fetch-bytes is for one view; what is for none would reach it some day
        account = household.account("prefetch", unbounded, by_path=False)

        async def begin(name: str | None, selection: Selection | None, most_bytes: int | None) -> JobFacts:
            if name is not None:
                kept = views.named(name)
                with kept.account.paying():
                    accessors = await accessors_of(kept.session, kept.scene.view, selection)
                return jobs.begin(accessors, most_bytes, kept.ahead.start)
            own = self._config.of_all
            taken = await sessions.take(own, own)
            try:
                with account.paying():
                    accessors = await accessors_of(taken, None, selection)
            except BaseException:
                sessions.give_back(taken)
                raise
            with account.paying():
                return jobs.begin(accessors, most_bytes, lambda job: work.start_soon(hold, taken, job))

        async def hold(taken: Session, job: Callable[[], Awaitable[None]]) -> None:
            try:
                await job()
            finally:
                sessions.give_back(taken)

        pinning = Pinning(household.cache, session)
        with household.account("pins", unbounded, by_path=False).paying():
            work.start_soon(pinning.run)
        return {**cache_operations.operations(household.cache, pinning), **prefetch_operations(jobs, begin)}

    def _status(self, household: Household, views: Views, sessions: Sessions) -> Callable[[object], Awaitable[object]]:
        async def tell(_: object) -> object:
            if self._handlers is None or self._images is None:
                raise Unavailable("the daemon is starting")
            return status.take_daemon(
                household,
                self._handlers.statistics() + self._images.statistics(),
                views.facts(),
                sessions.open,
                cache_dir=self._config.cache_dir,
                started=self._started,
            )

        return tell


def _after(event: trio.Event, operations: Mapping[str, Do]) -> dict[str, Do]:
    """Let whoever asks for one of these wait for ``event``."""

    async def wait(do: Do, arguments: Mapping[str, Any]) -> object:
        await event.wait()
        return await do(arguments)

    return {name: partial(wait, do) for name, do in operations.items()}


def _as_json(do: Do) -> Do:
    async def answer(arguments: Mapping[str, Any]) -> object:
        return status.as_json(await do(arguments))

    return answer


async def _feed_watchdog(environ: Mapping[str, str]) -> None:
    """Tell the service manager that the event loop turns, twice as often as it wants to hear; sd_watchdog_enabled(3).

    Ends at once if it does not want to.
    """
    wanted_us = environ.get("WATCHDOG_USEC", "")
    if not wanted_us.isdecimal() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    while True:
        notify_systemd("WATCHDOG=1", environ)
        await trio.sleep(int(wanted_us) / 2e6)
