"""One View on one mountpoint: from open lakes to a clean unmount."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import trio

from narfs.daemon import event_loop, status
from narfs.daemon.ahead import Ahead, running
from narfs.daemon.caching.operations import offered_by
from narfs.daemon.config import Frontend
from narfs.daemon.control import socket_path
from narfs.daemon.control_server import Operation, listening
from narfs.daemon.directories import socket_directory
from narfs.daemon.erofs.alone import serve_alone
from narfs.daemon.erofs.frontend import choose, foresees
from narfs.daemon.erofs.homes import make_home
from narfs.daemon.erofs.images import open_images
from narfs.daemon.known_paths import ClosedSet, OpenSet
from narfs.daemon.nix_socket import serving_nix
from narfs.daemon.prefetching import operations as prefetching
from narfs.daemon.prefetching.jobs import Jobs
from narfs.daemon.registering import registration_aside
from narfs.daemon.reports.report import report
from narfs.daemon.session import open_session
from narfs.errors import UsageError
from narfs.lake.account import payer
from narfs.mount.fuse import Stage, serve_mount
from narfs.mount.inodes import Inodes
from narfs.mount.mountpoint import prepare
from narfs.mount.options import MountOptions
from narfs.mount.scene import Scene
from narfs.mount.view import View
from narfs.privileges import Capability, keep_only

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from narfs.daemon.config import Config
    from narfs.daemon.erofs.images import Images
    from narfs.daemon.readiness import Announcer
    from narfs.daemon.selection import Selection
    from narfs.daemon.session import Household, Session
    from narfs.engine.accessor import NarAccessor
    from narfs.engine.means import Described
    from narfs.formats.store_path import StorePath
    from narfs.mount.statistics import MountStatistics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """What one mount process is for. ``label`` is what it is called where people ask: its mountpoint, mostly."""

    config: Config
    selection: Selection
    mountpoint: Path
    options: MountOptions
    label: str
    runtime: Path
    if_cache_held: Literal["refuse", "uncached"] = "refuse"
    """What to do when another process has the cache directory."""
    images: Path = Path("/var/lib/narfs/images")
    """Where images for EROFS are made."""
    nix_socket: Path | None = None
    """Where Nix may ask what is known of the paths."""


def mount_options(words: Iterable[str] = ()) -> MountOptions:
    """Read the words of ``-o``; UsageError for those that ask for what narfs never does."""
    given = {word for text in words for word in text.split(",") if word}
    if refused := given & _REFUSED:
        raise UsageError(f"-o {min(refused)}: narfs shows immutable files and mounts ro,nosuid,nodev")
    own = {"allow_other", "nonempty"}
    usual = MountOptions.for_this_user()
    return MountOptions(
        allow_other=usual.allow_other or "allow_other" in given,
        nonempty="nonempty" in given,
        extra=frozenset(word for word in given - own - _FOR_OTHERS if not word.startswith("x-")),
    )


_REFUSED = frozenset({"rw", "suid", "dev"})
_FOR_OTHERS = frozenset({"defaults", "ro", "nosuid", "nodev", "auto", "noauto", "user", "users", "nofail", "_netdev"})
"""What mount(8) and fstab(5) say to each other, and what is so anyway."""


def run(task: Task, announcer: Announcer) -> None:
    """Serve in an event loop of one's own."""
    take_all_descriptors()
    give_up_privileges()
    event_loop.run_service(partial(serve, task, announcer))


def give_up_privileges() -> None:
    """Keep, of what root may do, what mounts take. For others fusermount3 does that, which is setuid."""
    if os.geteuid() == 0:
        keep_only(Capability.SYS_ADMIN, Capability.DAC_READ_SEARCH)


def take_all_descriptors() -> None:
    """Raise the soft limit of open files, 1024 in most places for the sake of select(2), to the hard one.

    The cache alone keeps two for each of 256 NARs; lakes, workers and the control socket come to that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(task: Task, announcer: Announcer) -> None:
    """Serve until the mount is gone: by SIGTERM or SIGINT, by the control socket, or by fusermount3 -u."""
    started = time.time()
    async with trio.open_nursery() as nursery:
        # First of all: a signal that comes while the lakes are being asked must end this, and not unclean.
        nursery.start_soon(_end_on_signal, nursery.cancel_scope)
        # Before the cache is taken: who mounts twice in one place shall hear of that and not of the cache's holder.
        await prepare(task.mountpoint, nonempty=task.options.nonempty)
        async with (
            open_session(task.config, if_held=task.if_cache_held) as session,
            offered_by(session) as of_cache,
            AsyncExitStack() as opened,
        ):
            if session.cache is None and task.if_cache_held == "uncached":
                log.info("%s: without a cache: %s is in use", task.label, task.config.cache_dir)
            session.store.warm_up()
            # A store that is for another directory is refused now, not at the first lookup; a dead one must not delay.
            with trio.move_on_after(task.config.root_lookup_deadline_s):
                await session.introduce()
            images = await opened.enter_async_context(_images(task, session.household))
            members, accessors = await _members(task, session, images)
            view = View(closed=False)
            if accessors is not None:
                view = View.of(accessors, inodes=None if images is None else Inodes())
            known = OpenSet(session.store) if members is None else ClosedSet(member.narinfo for member in members)
            counts: list[Callable[[], MountStatistics]] = []
            scene = Scene(
                view,
                None if view.closed else session.store,
                read_deadline_s=task.config.read_deadline_s,
                root_deadline_s=task.config.root_lookup_deadline_s,
            )
            account = payer()

            async def tell_status(_: object) -> object:
                return status.as_json(status.take(task, session, view, counts, started=started))

            async def tell_report(_: object) -> object:
                return status.as_json(await report(task.label, scene, account))

            async def tell_registration(_: object) -> object:
                return await registration_aside(known)

            async def unmount(_: object) -> None:
                nursery.cancel_scope.cancel()

            operations = {
                "status": Operation(tell_status),
                "report": Operation(tell_report),
                "registration": Operation(tell_registration),
                "unmount": Operation(unmount),
            }
            ahead = Ahead(session, task.config, scene, accessors or (), members or ())
            operations |= {name: Operation(do) for name, do in of_cache.items()}
            if session.cache is not None:
                jobs = Jobs(session.cache)
                offered = prefetching.operations(jobs, prefetching.of_one(session, jobs, ahead.start, view))
                operations |= {name: Operation(do) for name, do in offered.items()}
            path = socket_path(socket_directory(task.runtime), task.label, os.getpid())
            # It tells what the mount shows, to whom the mount shows it.
            shared = task.options.allow_other
            async with listening(path, operations), serving_nix(task.nix_socket, known, shared=shared):

                def ready(count: Callable[[], MountStatistics]) -> None:
                    counts.append(count)
                    gc.freeze()  # what is loaded stays: a full collection took 11 ms over it, in the middle of service
                    log.info("%s: mounted", task.label)
                    announcer.ready(_warnings(session))

                async with running(ahead):
                    if images is None:
                        # Files of root's, or the mounting user's where the kernel would not let root's be seen.
                        stage = Stage(scene, owner=(os.geteuid(), os.getegid()))
                        await serve_mount(
                            stage,
                            task.mountpoint,
                            options=task.options,
                            on_ready=lambda handlers: ready(handlers.statistics),
                        )
                    else:
                        await serve_alone(scene, images, task.mountpoint, on_ready=ready)
        nursery.cancel_scope.cancel()
    log.info("%s: unmounted", task.label)


def _warnings(session: Session) -> list[str]:
    """Say what is tolerated, but should not have to be looked up in the log by whoever has just mounted."""
    warnings = [
        f"{trouble}; it is asked again when needed"
        for lake in (*session.lakes.lakes, *session.index_lakes.lakes)
        if (trouble := lake.trouble)
    ]
    for warning in warnings:
        log.warning("%s", warning)
    return warnings if session.household.cache_trouble is None else [*warnings, session.household.cache_trouble]


@asynccontextmanager
async def _images(task: Task, household: Household) -> AsyncIterator[Images | None]:
    """Open the place of images if EROFS was asked for; UsageError if an option keeps it away."""
    if task.config.frontend is not Frontend.EROFS:
        yield None
        return
    if task.options.extra:
        raise UsageError(f"-o {min(task.options.extra)}: an option of FUSE, which --frontend erofs does not take")
    home = make_home(task.runtime)
    try:
        async with open_images(household, task.images, home) as images:
            await images.trouble()  # until that is known nothing is made ahead
            yield images
    finally:
        home.rmdir()


async def _members(
    task: Task, session: Session, images: Images | None
) -> tuple[list[Described] | None, list[tuple[StorePath, NarAccessor]] | None]:
    """Give the members of a closed View and their NARs, with all that an image needs known; nothing of an open one."""
    members = accessors = None
    if task.selection.closed:
        members = await session.members(task.selection, unseal=True, on_tree=foresees(task.config, images))
        accessors = await session.accessors(members)
    if images is not None:
        await choose(task.config, accessors, images)
    return members, accessors


async def _end_on_signal(serving: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("%s: unmounting", signal.Signals(number).name)
            serving.cancel()
            return
