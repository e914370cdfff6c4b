"""All narinfos that a closed View needs, fetched in parallel before the mount is usable."""

from __future__ import annotations

import itertools
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING

import trio

from narfs.errors import NarfsError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from narfs.engine.accessor import NarAccessor
    from narfs.engine.means import Described
    from narfs.engine.store import Store
    from narfs.formats.store_path import StorePath

_AT_ONCE = 64
"""Narinfos asked for at the same time; the lake bounds its own requests below that."""

_RECALLED_AT_ONCE = 4
"""0.2 ms of the event loop's."""

_NAMED_MISSING = 5


async def describe_all(
    store: Store,
    paths: Iterable[StorePath],
    *,
    closure: bool,
    allow_missing: bool,
    unseal: bool = False,
    on_tree: Callable[[NarAccessor], None] = lambda _: None,
) -> list[Described]:
    """Describe ``paths``, and all they refer to if ``closure``; in the order of their names.

    With ``unseal`` the sealed index of each path is asked for as soon as its narinfo is here, if that came from a lake:
    a closure is as deep as it takes round trips to walk, and this fills them. ``on_tree`` is told what has come.

    NotFound names the members that no lake has, unless ``allow_missing``; any other trouble is raised as it is.
    """
    async with trio.open_nursery() as nursery:
        walk = _Walk(store, nursery, closure=closure, on_tree=on_tree if unseal else None)
        await walk.over(paths)
    if walk.trouble:
        raise walk.trouble[0]
    if walk.missing and not allow_missing:
        missing = sorted(walk.missing)
        names = ", ".join(path.base_name for path in missing[:_NAMED_MISSING])
        more = f" and {len(missing) - _NAMED_MISSING} more" if len(missing) > _NAMED_MISSING else ""
        raise NotFound(f"no store has {names}{more}; push them, or mount without them with --allow-missing")
    return [walk.found[path] for path in sorted(walk.found, key=_name)]


_name = attrgetter("base_name")
"""Paths are ordered by it, and a text is compared ten times as fast as a path."""


class _Walk:
    """What one walk has found so far, and the tasks that are asking, in ``nursery``."""

    def __init__(
        self, store: Store, nursery: trio.Nursery, *, closure: bool, on_tree: Callable[[NarAccessor], None] | None
    ) -> None:
        self.found: dict[StorePath, Described] = {}
        self.missing: list[StorePath] = []
        self.trouble: list[NarfsError] = []
        self._store = store
        self._nursery = nursery
        self._closure = closure
        self._on_tree = on_tree
        self._seen: set[StorePath] = set()
        self._limit = trio.CapacityLimiter(_AT_ONCE)

    async def over(self, paths: Iterable[StorePath]) -> None:
        """Take what is known here, and what that refers to; ask for all else, each in a task of its own."""
        todo = self._new(paths)
        for number in itertools.count(1):
            if not todo:
                return
            path = todo.pop()
            if (known := self._store.recall(path)) is None:
                self._nursery.start_soon(self._ask, path)
                continue
            todo += self._new(self._take(path, known))
            if self._on_tree is not None and not known.kept:
                self._nursery.start_soon(self._unseal, known)
            if number % _RECALLED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _new(self, paths: Iterable[StorePath]) -> list[StorePath]:
        """Give those that were not met yet, the first by name last."""
        new = sorted(set(paths) - self._seen, key=_name, reverse=True)
        self._seen.update(new)
        return new

    def _take(self, path: StorePath, described: Described) -> Iterable[StorePath]:
        self.found[path] = described
        return described.narinfo.references if self._closure else ()

    async def _ask(self, path: StorePath) -> None:
        async with self._limit:
            try:
                described = await self._store.describe(path)
            except NotFound:
                self.missing.append(path)
                return
            except NarfsError as error:
                self.trouble.append(error)
                self._nursery.cancel_scope.cancel()
                return
        await self.over(self._take(path, described))
        if self._on_tree is not None and not described.kept:
            await self._unseal(described)

    async def _unseal(self, described: Described) -> None:
        with suppress(NarfsError):
            accessor = await self._store.accessor(described)
            if await accessor.unseal() and self._on_tree is not None:
                self._on_tree(accessor)
