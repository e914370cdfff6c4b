"""Running one asynchronous function from start to end, for a caller that wants one failure and not a group of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from narfs.errors import NarfsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in an event loop of its own and return what it returns; see ``most_telling``."""
    try:
        return trio.run(partial(_awaited, work))
    except BaseExceptionGroup as group:
        raise most_telling(group) from group


def most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose of several failures at once: a bug before Ctrl-C and cancellation, those before an expected failure."""
    return min(_leaves(group), key=_expectedness)


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _expectedness(failure: BaseException) -> int:
    if isinstance(failure, KeyboardInterrupt | trio.Cancelled):
        return 1
    return 2 if isinstance(failure, NarfsError) else 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each
