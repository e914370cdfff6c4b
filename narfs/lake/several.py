"""Several requests at once, bounded, with one failure for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from narfs.errors import NarfsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

T = TypeVar("T")


async def for_each(items: Iterable[T], do: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Do it for every item, begun in order; the first failure cancels the others and is raised."""
    queue = iter(items)
    failures: list[NarfsError] = []

    async def work() -> None:
        for item in queue:
            try:
                await do(item)
            except NarfsError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)
    if failures:
        raise failures[0]
