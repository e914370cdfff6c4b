"""All narinfos that a closed View needs, fetched in parallel before the mount is usable."""

from __future__ import annotations

from contextlib import suppress
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
    store: Store, paths: Iterable[StorePath], *, closure: bool, allow_missing: bool, unseal: bool = False
) -> list[Described]:
    """Describe ``paths``, and all they refer to if ``closure``; in the order of their names.

    With ``unseal`` the sealed index of each path is asked for as soon as its narinfo is here, if that came from a lake:
    a closure is as deep as it takes round trips to walk, and this fills them. What comes of it is not told here.

    NotFound names the members that no lake has, unless ``allow_missing``; any other trouble is raised as it is.
    """
    found: dict[StorePath, Described] = {}
    missing: list[StorePath] = []
    trouble: list[NarfsError] = []
    seen: set[StorePath] = set()
    limit = trio.CapacityLimiter(_AT_ONCE)

    def begin(paths: Iterable[StorePath]) -> None:
        for path in sorted(set(paths) - seen):
            seen.add(path)
            nursery.start_soon(visit, path)

    async def visit(path: StorePath) -> None:
        async with limit:
            try:
                described = found[path] = await store.describe(path)
            except NotFound:
                missing.append(path)
                return
            except NarfsError as error:
                trouble.append(error)
                nursery.cancel_scope.cancel()
                return
        if closure:
            begin(described.narinfo.references)
        if unseal and not described.kept:
            with suppress(NarfsError):
                await (await store.accessor(described)).unseal()

    async with trio.open_nursery() as nursery:
        begin(paths)
    if trouble:
        raise trouble[0]
    if missing and not allow_missing:
        names = ", ".join(path.base_name for path in sorted(missing)[:_NAMED_MISSING])
        more = f" and {len(missing) - _NAMED_MISSING} more" if len(missing) > _NAMED_MISSING else ""
        raise NotFound(f"no store has {names}{more}; push them, or mount without them with --allow-missing")
    return [found[path] for path in sorted(found)]
