"""The asking side of ``operations``: of the process that has the cache directory; of nobody, if nobody has it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from narfs.daemon import control
from narfs.daemon.asking import daemon_status
from narfs.daemon.caching.operations import operations
from narfs.daemon.directories import runtime_directory
from narfs.daemon.session import open_session
from narfs.errors import CacheHeld, NarfsError
from narfs.publish.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from narfs.daemon.config import Config

_DEADLINE_S: Final = 600.0
"""Of one step: it takes a second, but for the first, which reads the whole catalog, and on a disk that is busy."""


class Ask(Protocol):
    """Have an operation done; raises as it failed there."""

    async def __call__(self, operation: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Give the answer."""


@dataclass(slots=True)
class Verified:
    """What all steps of a verification found."""

    nars: int = 0
    chunks: int = 0
    compared_bytes: int = 0
    dropped: list[dict[str, str]] = field(default_factory=list)
    left: list[dict[str, str]] = field(default_factory=list)

    def add(self, told: Mapping[str, Any]) -> None:
        """Take in one step."""
        self.nars += told["nars"]
        self.chunks += told["chunks"]
        self.compared_bytes += told["compared_bytes"]
        self.dropped += told["dropped"]
        self.left += told["left"]


async def status(config: Config, environ: Mapping[str, str]) -> dict[str, Any]:
    """Say what is kept."""
    async with holder(config, environ) as (ask, held):
        return {**await ask("cache-status"), "in_use": held}


async def verify(config: Config, environ: Mapping[str, str], progress: Callable[[Progress], None]) -> Verified:
    """Read and compare everything, drop what is wrong."""
    verified, cursor = Verified(), None
    async with holder(config, environ) as (ask, _):
        while True:
            told = await ask("cache-verify", {"from": cursor})
            verified.add(told)
            done = verified.compared_bytes
            progress(Progress("verifying", done, max(done, told["used_bytes"])))
            if (cursor := told["next"]) is None:
                return verified


async def shrink(
    config: Config, environ: Mapping[str, str], to_bytes: int | None, progress: Callable[[Progress], None]
) -> dict[str, int]:
    """Evict what was used least recently until ``to_bytes`` are left, or (None) the budget is kept."""
    evicted = 0
    async with holder(config, environ) as (ask, _):
        if to_bytes is None:
            to_bytes = (await ask("cache-status"))["budget_bytes"]
        while True:
            told = await ask("cache-shrink", {"to_bytes": to_bytes})
            evicted += told["evicted_bytes"]
            progress(Progress("evicting", evicted, evicted + max(0, told["used_bytes"] - to_bytes)))
            if told["done"]:
                return {"evicted_bytes": evicted, "used_bytes": told["used_bytes"]}


@asynccontextmanager
async def holder(config: Config, environ: Mapping[str, str]) -> AsyncIterator[tuple[Ask, bool]]:
    """Give who is asked, and whether that is another process: the one that has the cache directory of ``config``."""
    async with AsyncExitStack() as opened:
        try:
            session = await opened.enter_async_context(open_session(config, if_held="refuse", cache_needed=True))
        except CacheHeld as held:
            yield await trio.to_thread.run_sync(_process, held.pid, config, runtime_directory(environ)), True
            return
        assert session.cache is not None  # noqa: S101 - it was needed
        offered = operations(session.cache)

        async def ask(operation: str, arguments: Mapping[str, object] | None = None) -> Any:
            return await offered[operation](arguments or {})

        yield ask, False


def _process(pid: int, config: Config, runtime: Path) -> Ask:
    """Find the control socket of a process. Blocks; CacheHeld if it has none that we may find."""
    sockets = [path for path in control.sockets(runtime) if control.pid_of(path) == pid]
    if not sockets and _daemon_pid(runtime) == pid:
        sockets = [runtime / control.DAEMON_SOCKET]
    if not sockets:
        raise CacheHeld(
            f"cache {config.cache_dir} is in use by process {pid}, which has no socket in {runtime}:"
            " ask as its user, or when it has ended",
            pid=pid,
        )

    async def ask(operation: str, arguments: Mapping[str, object] | None = None) -> Any:
        return await trio.to_thread.run_sync(
            partial(control.ask, sockets[0], operation, arguments, deadline_s=_DEADLINE_S), abandon_on_cancel=True
        )

    return ask


def _daemon_pid(runtime: Path) -> int | None:
    try:
        told = daemon_status(runtime)
    except NarfsError:
        return None
    return None if told is None else int(told["daemon"]["pid"])
