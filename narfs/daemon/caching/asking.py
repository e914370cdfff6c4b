"""The asking side of ``operations``: of the process that has the cache directory; of nobody, if nobody has it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from narfs.daemon import control
from narfs.daemon.asking import daemon_status
from narfs.daemon.caching.operations import offered_by, operations
from narfs.daemon.caching.pinning import Pinning
from narfs.daemon.directories import runtime_directory
from narfs.daemon.prefetching import operations as prefetching
from narfs.daemon.prefetching.jobs import Jobs
from narfs.daemon.session import open_session
from narfs.errors import CacheHeld, NarfsError
from narfs.publish.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from narfs.daemon.caching.operations import Operations
    from narfs.daemon.config import Config
    from narfs.daemon.selection import PathName

_DEADLINE_S: Final = 600.0
"""Of one step: it takes a second, but for the first, which reads the whole catalog, and on a disk that is busy."""

_LOOK_EVERY_S: Final = 0.3


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


async def pin(
    config: Config, environ: Mapping[str, str], names: Iterable[PathName], progress: Callable[[Progress], None]
) -> list[dict[str, Any]]:
    """Pin closures, and wait until they are here or cannot be had; give what became of each."""
    async with holder(config, environ, fetches=True) as (ask, _):
        wanted = {(await ask("cache-pin", {"path": _told(name)}))["name"] for name in names}
        while True:
            pins = [pin for pin in (await ask("cache-status"))["pins"] if pin["name"] in wanted]
            total, missing = (sum(pin[size] for pin in pins) for size in ("nar_bytes", "missing_bytes"))
            progress(Progress("pinning", total - missing, total))
            if all(pin["complete"] or pin["trouble"] for pin in pins):
                return pins
            await trio.sleep(_LOOK_EVERY_S)


async def unpin(config: Config, environ: Mapping[str, str], names: Iterable[PathName]) -> None:
    """End pins."""
    async with holder(config, environ) as (ask, _):
        for name in names:
            await ask("cache-unpin", {"path": _told(name)})


def _told(name: PathName) -> str:
    return name.hash_part if name.path is None else name.path.path


@asynccontextmanager
async def holder(
    config: Config, environ: Mapping[str, str], *, fetches: bool = False
) -> AsyncIterator[tuple[Ask, bool]]:
    """Give who is asked, and whether that is another process: the one that has the cache directory of ``config``.

    ``fetches``: what is pinned is fetched meanwhile, also if nobody else has the cache.
    """
    async with AsyncExitStack() as opened:
        try:
            session = await opened.enter_async_context(open_session(config, if_held="refuse", cache_needed=True))
        except CacheHeld as held:
            yield await trio.to_thread.run_sync(_process, held.pid, config, runtime_directory(environ)), True
            return
        assert session.cache is not None  # noqa: S101 - it was needed
        if fetches:
            jobs, nursery = Jobs(session.cache), await opened.enter_async_context(trio.open_nursery())
            begin = prefetching.of_one(session, jobs, nursery.start_soon)
            of_cache = await opened.enter_async_context(offered_by(session))
            offered: Operations = {**of_cache, **prefetching.operations(jobs, begin)}
        else:
            offered = operations(session.cache, Pinning(session.cache, session))

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
