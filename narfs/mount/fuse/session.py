"""One FUSE session: from an empty directory to a mount, and back without leaving a program in the lurch."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pyfuse3
import trio

from narfs import addresses
from narfs.errors import Unavailable
from narfs.mount.fuse.handlers import Handlers
from narfs.mount.fuse.reading import never_wait, require_known
from narfs.mount.mountpoint import prepare
from narfs.mount.options import MountOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from narfs.mount.fuse.stage import Stage

_LAST_ANSWERS_S = 0.5
"""A program that asks without end must not keep the mount alive."""

_STANDARD_ERROR = 2
"""libfuse's, which knows nothing of sys.stderr."""

_IDLE_TASKS = 8
"""Each has a buffer: 1 MiB of addresses."""
_MAX_TASKS = 2048
"""Requests being answered at once. pyfuse3's 99 would be used up by a hundred stalled reads, and hits would wait."""


async def serve_mount(
    stage: Stage,
    mountpoint: Path,
    *,
    options: MountOptions | None = None,
    on_ready: Callable[[Handlers], object] = lambda _: None,
) -> None:
    """Serve until it is unmounted or the caller is cancelled; then nothing is mounted any more.

    ``on_ready`` is called once, when the first answer can be given. One mount per process. UsageError: the mountpoint
    will not do; Unavailable: the kernel refused. Cancelled, it answers what is in flight before it unmounts: a program
    that waits for bytes gets ENOTCONN, not the ECONNABORTED of a daemon that died.
    """
    options = options or MountOptions.for_this_user()
    place = await prepare(mountpoint, nonempty=options.nonempty)
    handlers = Handlers(stage)
    for scene in stage.scenes:
        await scene.roots.learn_all()
    _mount(handlers, place, options)
    try:
        async with trio.open_nursery() as nursery:
            ended = trio.Event()
            for scene in stage.scenes:
                nursery.start_soon(scene.roots.keep_trying)
            nursery.start_soon(handlers.recall.run)
            nursery.start_soon(_answer_kernel, handlers, ended)
            try:
                await handlers.usable.wait()
                if not ended.is_set():
                    on_ready(handlers)
                await ended.wait()
            finally:
                with trio.CancelScope(shield=True):
                    for scene in stage.scenes:
                        await scene.waits.close()
                    await _let_pass(handlers)
                    if not ended.is_set():
                        pyfuse3.terminate()
                    await ended.wait()
            nursery.cancel_scope.cancel()
    finally:
        pyfuse3.close()


def _mount(handlers: Handlers, place: Path, options: MountOptions) -> None:
    """Mount; Unavailable with the reason, which libfuse and fusermount3 only write to standard error."""
    require_known()
    kept = os.dup(_STANDARD_ERROR)
    failure: RuntimeError | None = None
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), _STANDARD_ERROR)
        try:
            pyfuse3.init(handlers, str(place), options.words())
        except RuntimeError as error:
            failure = error
        finally:
            os.dup2(kept, _STANDARD_ERROR)
            os.close(kept)
        said.seek(0)
        text = said.read()
    if failure is None:
        never_wait()
        os.write(_STANDARD_ERROR, text)  # a warning, or another thread's
        return
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    raise Unavailable(f"{place}: cannot be mounted: {_explained('; '.join(lines) or str(failure))}") from failure


def _explained(reason: str) -> str:
    """Add what to do, where the reason does not say it."""
    if "/dev/fuse" in reason:
        return f"{reason}; it has to be there (modprobe fuse) and open to you (mode 0666 is usual)"
    if "exec" in reason and "fusermount3" in reason:
        return f"{reason}; install it (package fuse3)"
    return reason


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
            idle = 1 if addresses.are_limited() else _IDLE_TASKS
            await pyfuse3.main(min_tasks=idle, max_tasks=_MAX_TASKS)
    finally:
        ended.set()
        handlers.usable.set()
