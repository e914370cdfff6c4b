"""KnownPaths: what can be said of store paths, without their contents, by whoever shows them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from narfs.engine.closure import describe_all
from narfs.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from narfs.engine.store import Store
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.store_path import StorePath


class KnownPaths(Protocol):
    """What is not valid is left out of every answer; what cannot be known raises Unavailable, Untrusted and so on."""

    async def describe(self, hash_part: str) -> NarInfo | None:
        """Give the path with this hash part."""

    async def valid(self, paths: Iterable[StorePath]) -> set[StorePath]:
        """Give those of ``paths`` that are valid."""

    def everything(self) -> Collection[NarInfo]:
        """Give all there is; UsageError if nobody knows."""

    def referrers(self, path: StorePath) -> Iterable[StorePath]:
        """Give what refers to ``path``; UsageError if nobody knows."""


class ClosedSet:
    """Exactly these, and all is known of them."""

    def __init__(self, narinfos: Iterable[NarInfo]) -> None:
        self._by_hash = {narinfo.path.hash_part: narinfo for narinfo in narinfos}
        self._paths = {narinfo.path for narinfo in self._by_hash.values()}

    async def describe(self, hash_part: str) -> NarInfo | None:  # noqa: D102
        return self._by_hash.get(hash_part)

    async def valid(self, paths: Iterable[StorePath]) -> set[StorePath]:  # noqa: D102
        return self._paths.intersection(paths)

    def everything(self) -> Collection[NarInfo]:  # noqa: D102
        return self._by_hash.values()

    def referrers(self, path: StorePath) -> Iterable[StorePath]:  # noqa: D102
        return self._referrers.get(path, ())

    @cached_property
    def _referrers(self) -> dict[StorePath, list[StorePath]]:
        found: dict[StorePath, list[StorePath]] = {}
        for narinfo in self._by_hash.values():
            for reference in set(narinfo.references):
                found.setdefault(reference, []).append(narinfo.path)
        return found


class OpenSet:
    """Whatever the lakes have; it cannot be counted up."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def describe(self, hash_part: str) -> NarInfo | None:  # noqa: D102
        try:
            return (await self._store.describe_by_hash(hash_part)).narinfo
        except NotFound:
            return None

    async def valid(self, paths: Iterable[StorePath]) -> set[StorePath]:  # noqa: D102
        found = await describe_all(self._store, paths, closure=False, allow_missing=True)
        return {described.narinfo.path for described in found}

    def everything(self) -> Collection[NarInfo]:  # noqa: D102
        raise _uncounted()

    def referrers(self, path: StorePath) -> Iterable[StorePath]:  # noqa: ARG002, D102
        raise _uncounted()


def _uncounted() -> UsageError:
    return UsageError("an open View shows whatever its stores have and cannot count it up; close it with --closure")
