"""Running one asynchronous function from start to end, for a caller that wants one failure and not a group of them."""

from __future__ import annotations

import faulthandler
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from narfs import addresses
from narfs.errors import NarfsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

_STILL_S: Final = 10.0
"""A turn takes milliseconds; systemd's watchdog kills after 30 s, and what it kills has said nothing."""

_STANDARD_ERROR: Final = 2


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in an event loop of its own and return what it returns; see ``most_telling``."""
    try:
        return trio.run(partial(_awaited, work))
    except BaseExceptionGroup as group:
        raise most_telling(group) from group


def run_service(work: Callable[[], Awaitable[T]], *, still_s: float = _STILL_S) -> T:
    """As ``run``, for what runs for days: standard error hears where the loop stands when it stands still."""
    addresses.spare_them()
    try:
        return run(partial(_watched, work, still_s))
    finally:
        faulthandler.cancel_dump_traceback_later()


def most_telling(failure: BaseException) -> BaseException:
    """Choose of several failures at once: a bug before Ctrl-C and cancellation, those before an expected failure."""
    return min(_leaves(failure), key=_expectedness)


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


async def _watched(work: Callable[[], Awaitable[T]], still_s: float) -> T:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell_where_it_stands, still_s)
        try:
            return await work()
        finally:
            nursery.cancel_scope.cancel()


async def _tell_where_it_stands(still_s: float) -> None:
    """Have a thread that takes no lock of the interpreter write down all stacks unless it is told later each time."""
    while True:
        with suppress(RuntimeError):  # no thread can be started: memory has run out
            faulthandler.dump_traceback_later(still_s, file=_STANDARD_ERROR)
        await trio.sleep(still_s / 2)


def _expectedness(failure: BaseException) -> int:
    if isinstance(failure, KeyboardInterrupt | trio.Cancelled):
        return 1
    return 2 if isinstance(failure, NarfsError) else 0


def _leaves(failure: BaseException) -> Iterator[BaseException]:
    if isinstance(failure, BaseExceptionGroup):
        for each in failure.exceptions:
            yield from _leaves(each)
    else:
        yield failure
