"""Single flight: one piece of work, any number of readers, none of whom owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from narfs.engine.flights import Flights
from narfs.errors import FormatError, NarfsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Work:
    """Work that ends when told, and counts how often it began."""

    def __init__(self, error: Exception | None = None) -> None:
        self.began = 0
        self.may_end = trio.Event()
        self._error = error

    async def __call__(self) -> str:
        self.began += 1
        await self.may_end.wait()
        if self._error is not None:
            raise self._error
        return "result"


async def test_readers_of_the_same_thing_share_one_flight(nursery: trio.Nursery) -> None:
    flights: Flights[str, str] = Flights(nursery)
    work, results = Work(), list[str]()

    async def reader() -> None:
        results.append(await flights.result("key", work))

    async with trio.open_nursery() as readers:
        for _ in range(5):
            readers.start_soon(reader)
        await wait_all_tasks_blocked()
        work.may_end.set()
    assert (work.began, results, len(flights)) == (1, ["result"] * 5, 0)


async def test_a_reader_that_goes_away_leaves_the_work_and_the_others_alone(nursery: trio.Nursery) -> None:
    flights: Flights[str, str] = Flights(nursery)
    work = Work()
    with trio.move_on_after(0):
        await flights.result("key", work)
    assert len(flights) == 1
    work.may_end.set()
    assert await flights.result("key", work) == "result"
    assert work.began == 1


@pytest.mark.parametrize(
    "error",
    [Unavailable("the lake is down"), FormatError("NAR", offset=3, expected="a", found="b")],
    ids=lambda error: type(error).__name__,
)
async def test_each_waiter_gets_an_error_of_its_own(nursery: trio.Nursery, error: NarfsError) -> None:
    flights: Flights[str, str] = Flights(nursery)
    caught: list[NarfsError] = []
    work = Work(error)

    async def reader() -> None:
        with pytest.raises(type(error)) as raised:
            await flights.result("key", work)
        caught.append(raised.value)

    async with trio.open_nursery() as readers:
        readers.start_soon(reader)
        readers.start_soon(reader)
        await wait_all_tasks_blocked()
        work.may_end.set()
    assert caught[0] is not caught[1]
    assert [str(one) for one in caught] == [str(error)] * 2
    assert vars(caught[0]) == vars(error)


async def test_a_bug_in_the_work_is_logged_and_does_not_end_the_nursery(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    flights: Flights[str, str] = Flights(nursery)
    work = Work(ZeroDivisionError("a bug"))
    work.may_end.set()
    with pytest.raises(Unavailable, match="a bug"):
        await flights.result("key", work)
    assert "ZeroDivisionError" in caplog.text


async def test_a_lack_of_memory_ends_a_piece_of_work_in_one_line(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    flights: Flights[str, str] = Flights(nursery)
    work = Work(MemoryError())
    work.may_end.set()
    with pytest.raises(Unavailable, match="no memory left"):
        await flights.result("key", work)
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [
        ("a piece of work ended: no memory left", None)
    ]


async def test_the_next_one_to_ask_after_a_failure_starts_afresh(nursery: trio.Nursery) -> None:
    flights: Flights[str, str] = Flights(nursery)
    works: list[Callable[[], Awaitable[str]]] = []
    for error in (Unavailable("once"), None):
        work = Work(error)
        work.may_end.set()
        works.append(work)
    with pytest.raises(Unavailable):
        await flights.result("key", works[0])
    assert await flights.result("key", works[1]) == "result"
