"""All narinfos that a closed View needs, fetched in parallel before the mount is usable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from narfs.errors import NarfsError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from narfs.engine.means import Described
    from narfs.engine.store import Store
    from narfs.formats.store_path import StorePath

_AT_ONCE = 64
"""Narinfos asked for at the same time; the lake bounds its own requests below that."""

_NAMED_MISSING = 5


async def describe_all(
    store: Store, paths: Iterable[StorePath], *, closure: bool, allow_missing: bool
) -> list[Described]:
    """Describe ``paths``, and all they refer to if ``closure``; in the order of their names.

    NotFound names the members that no lake has, unless ``allow_missing``; any other trouble is raised as it is.
    """
    found: dict[StorePath, Described] = {}
    missing: list[StorePath] = []
    trouble: list[NarfsError] = []
    todo = set(paths)
    seen = set(todo)
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def visit(path: StorePath) -> None:
        async with limit:
            try:
                described = await store.describe(path)
            except NotFound:
                missing.append(path)
                return
            except NarfsError as error:
                trouble.append(error)
                nursery.cancel_scope.cancel()
                return
        found[path] = described
        if closure:
            todo.update(set(described.narinfo.references) - seen)

    while todo:
        now = sorted(todo)
        seen |= todo
        todo.clear()
        async with trio.open_nursery() as nursery:
            for path in now:
                nursery.start_soon(visit, path)
        if trouble:
            raise trouble[0]
    if missing and not allow_missing:
        names = ", ".join(path.base_name for path in sorted(missing)[:_NAMED_MISSING])
        more = f" and {len(missing) - _NAMED_MISSING} more" if len(missing) > _NAMED_MISSING else ""
        raise NotFound(f"no store has {names}{more}; push them, or mount without them with --allow-missing")
    return [found[path] for path in sorted(found)]
