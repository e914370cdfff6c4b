"""The asking side of ``operations``: of the process that has the cache directory; of nobody, if nobody has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from narfs.daemon.caching.asking import holder
from narfs.errors import UsageError
from narfs.publish.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from narfs.daemon.config import Config
    from narfs.daemon.selection import PathName

_LOOK_EVERY_S: Final = 0.2


async def prefetch(
    config: Config,
    environ: Mapping[str, str],
    names: Iterable[PathName],
    progress: Callable[[Progress], None],
    *,
    closure: bool,
    most_bytes: int | None,
    view: str | None,
    wait: bool,
) -> dict[str, Any]:
    """Have paths brought, and say how far that is: as begun, or with ``wait`` when it is done.

    A process that has the cache goes on by itself; without one this waits in any case.
    """
    paths = [name.hash_part if name.path is None else name.path.path for name in names]
    if not paths and view is None:
        raise UsageError("say which store paths, or which view")
    async with holder(config, environ, fetches=True) as (ask, held):
        if view is not None and not held:
            raise UsageError(f"--view {view}: no daemon of narfs has the cache {config.cache_dir}")
        wanted = {"paths": paths, "closure": closure, "most_bytes": most_bytes, "view": view}
        told: dict[str, Any] = await ask("prefetch", wanted)
        while (wait or not held) and not told["done"]:
            await trio.sleep(_LOOK_EVERY_S)
            told = await ask("prefetch-status", {"id": told["id"]})
            progress(Progress("fetching", told["fetched_bytes"], max(told["wanted_bytes"], told["fetched_bytes"])))
        return told
