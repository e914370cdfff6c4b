"""One FUSE session: from an empty directory to a mount, and back without leaving a program in the lurch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3
import trio

from narfs.errors import Unavailable
from narfs.mount.fuse.handlers import Handlers
from narfs.mount.mountpoint import prepare
from narfs.mount.options import MountOptions
from narfs.mount.roots import Roots
from narfs.mount.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from narfs.mount.accessor import PathSource
    from narfs.mount.view import View

_LAST_ANSWERS_S = 0.5
"""A program that asks without end must not keep the mount alive."""

_IDLE_TASKS = 8
_MAX_TASKS = 2048
"""Requests being answered at once. pyfuse3's 99 would be used up by a hundred stalled reads, and hits would wait."""


async def serve_mount(
    view: View,
    mountpoint: Path,
    *,
    source: PathSource | None = None,
    options: MountOptions | None = None,
    on_ready: Callable[[Handlers], object] = lambda _: None,
) -> None:
    """Serve a View until it is unmounted or the caller is cancelled; then nothing is mounted any more.

    ``on_ready`` is called once, when the first answer can be given. One mount per process. UsageError: the mountpoint
    will not do; Unavailable: the kernel refused. Cancelled, it answers what is in flight before it unmounts: a program
    that waits for bytes gets ENOTCONN, not the ECONNABORTED of a daemon that died.
    """
    options = options or MountOptions.for_this_user()
    place = await prepare(mountpoint, nonempty=options.nonempty)
    waits = Waits()
    roots = Roots(view, source, waits, deadline_s=options.root_deadline_s)
    handlers = Handlers(view, roots, waits, read_deadline_s=options.read_deadline_s)
    await roots.learn_all()
    try:
        pyfuse3.init(handlers, str(place), options.words())
    except RuntimeError as error:  # libfuse has written the reason to stderr
        raise Unavailable(f"{place}: cannot be mounted; is /dev/fuse there, and fusermount3 installed?") from error
    try:
        async with trio.open_nursery() as nursery:
            ended = trio.Event()
            nursery.start_soon(roots.keep_trying)
            nursery.start_soon(handlers.recall.run)
            nursery.start_soon(_answer_kernel, handlers, ended)
            try:
                await handlers.usable.wait()
                if not ended.is_set():
                    on_ready(handlers)
                await ended.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await waits.close()
                    await _let_pass(handlers)
                    if not ended.is_set():
                        pyfuse3.terminate()
                    await ended.wait()
            nursery.cancel_scope.cancel()
    finally:
        pyfuse3.close()


async def _let_pass(handlers: Handlers) -> None:
    """Answer what the kernel has queued, and its second try of reads that just failed, until nothing came for 10 ms."""
    with trio.move_on_after(_LAST_ANSWERS_S):
        asked = -1
        while asked != handlers.requests.total():
            asked = handlers.requests.total()
            await trio.sleep(0.01)


async def _answer_kernel(handlers: Handlers, ended: trio.Event) -> None:
    """Run the session until it is terminated or unmounted; a cancellation must not leave requests unanswered."""
    try:
        with trio.CancelScope(shield=True):
            await pyfuse3.main(min_tasks=_IDLE_TASKS, max_tasks=_MAX_TASKS)
    finally:
        ended.set()
        handlers.usable.set()
