"""Work ahead of readers fills the way to a lake, and steps aside for who waits. The link is simulated, so is time."""
# ruff: noqa: ARG001 - what the clock is for is that nobody waits for it

from __future__ import annotations

import random
from functools import partial

import pytest
import trio
import trio.testing

from narfs.engine.ahead.governor import MEMORY_BYTES, PATIENCE_S, Governor, Turn
from narfs.lake.binary_cache import BinaryCache
from narfs.lake.store_url import StoreUrl
from narfs.lake.transport import TransportCounters, TransportStatistics

KIB, MIB = 1 << 10, 1 << 20
READ_BYTES = 100 * KIB
"""A chunk of 256 KiB, compressed."""


class SimulatedLink:
    """A transport's statistics, and a link that carries one answer after the other."""

    def __init__(self, rtt_s: float, bytes_per_s: float) -> None:
        self.rtt_s = rtt_s
        self.bytes_per_s = bytes_per_s
        self.free_at = 0.0
        self.counters = TransportCounters()
        self.lake = BinaryCache(StoreUrl.parse("http://lake.test"), self)  # type: ignore[arg-type]  # all that is used

    def statistics(self) -> TransportStatistics:
        return self.counters.snapshot(in_flight=0)

    async def carry(self, nbytes: int) -> None:
        await trio.sleep(self.rtt_s / 2)
        begun = max(trio.current_time(), self.free_at)
        self.free_at = begun + nbytes / self.bytes_per_s
        await trio.sleep_until(self.free_at + self.rtt_s / 2)
        self.counters.received_bytes += nbytes


async def work_ahead(
    governor: Governor, link: SimulatedLink, given: list[float] | None = None, *, least_bytes: int = 0
) -> None:
    """Fetch without end, each request in its turn and of ``least_bytes``, a chunk; ``given`` is when."""

    async def fetch(turn: object, nbytes: int) -> None:
        with turn, governor.asking(link.lake, nbytes, turn):  # type: ignore[attr-defined,arg-type]
            await link.carry(nbytes)

    async with trio.open_nursery() as nursery:
        while True:
            turn = await governor.turn(link.lake)
            if given is not None:
                given.append(trio.current_time())
            turn.takes(nbytes := max(turn.most_bytes, least_bytes))
            nursery.start_soon(fetch, turn, nbytes)


async def read(governor: Governor, link: SimulatedLink, *, reads: int, thinks_s: float) -> list[float]:
    """Read one thing after the other as a program does; how long each took."""
    chance, took = random.Random(1), []  # noqa: S311 - repeatable
    for _ in range(reads):
        await trio.sleep(chance.uniform(0, 2 * thinks_s))
        begun = trio.current_time()
        with governor.asking(link.lake, READ_BYTES, None):
            await link.carry(READ_BYTES)
        took.append(trio.current_time() - begun)
    return sorted(took)


LINKS = [(0.0002, 125e6), (0.01, 125e6), (0.05, 125e6), (0.0002, 6.25e6), (0.01, 6.25e6), (0.05, 6.25e6)]
LINK_IDS = [f"{rtt_s * 1000:g} ms, {rate * 8 / 1e6:g} Mbit" for rtt_s, rate in LINKS]


@pytest.mark.parametrize(("rtt_s", "bytes_per_s"), LINKS, ids=LINK_IDS)
async def test_alone_it_has_nearly_the_whole_link(
    autojump_clock: trio.testing.MockClock, rtt_s: float, bytes_per_s: float
) -> None:
    governor, link = Governor(), SimulatedLink(rtt_s, bytes_per_s)
    with trio.move_on_after(4):
        await work_ahead(governor, link)
    assert link.counters.received_bytes >= 0.9 * 3.5 * bytes_per_s


@pytest.mark.parametrize(("rtt_s", "bytes_per_s"), LINKS, ids=LINK_IDS)
async def test_a_program_that_reads_all_the_time_is_not_slowed_down(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, rtt_s: float, bytes_per_s: float
) -> None:
    alone = await read(Governor(), SimulatedLink(rtt_s, bytes_per_s), reads=600, thinks_s=0.0005)
    governor, link = Governor(), SimulatedLink(rtt_s, bytes_per_s)
    await read(governor, link, reads=3, thinks_s=0)
    nursery.start_soon(work_ahead, governor, link)
    beside = await read(governor, link, reads=600, thinks_s=0.0005)
    nursery.cancel_scope.cancel()
    assert beside[300] <= 1.05 * alone[300]
    assert beside[594] <= 1.1 * alone[594]


async def test_as_many_requests_as_may_be_are_too_many_for_a_way_that_they_do_not_fill_by_a_quarter_more(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """16 chunks of 86 kB on a way of 1.25 MB: it was never known, and each read waited for 8 % longer."""
    alone = await read(Governor(), SimulatedLink(0.01, 125e6), reads=600, thinks_s=0.0015)
    governor, link = Governor(), SimulatedLink(0.01, 125e6)
    await read(governor, link, reads=3, thinks_s=0)
    nursery.start_soon(partial(work_ahead, governor, link, least_bytes=86_000))
    beside = await read(governor, link, reads=600, thinks_s=0.0015)
    nursery.cancel_scope.cancel()
    assert governor.pace(link.lake).known
    assert beside[300] <= 1.02 * alone[300]


async def test_the_round_trips_of_a_program_are_not_lost(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    governor, link = Governor(), SimulatedLink(0.01, 125e6)
    nursery.start_soon(work_ahead, governor, link)
    await trio.sleep(1)
    begun, before = trio.current_time(), link.counters.received_bytes
    await read(governor, link, reads=100, thinks_s=0)
    ahead = link.counters.received_bytes - before - 100 * READ_BYTES
    assert ahead >= 0.25 * 125e6 * (trio.current_time() - begun)
    nursery.cancel_scope.cancel()


async def test_beside_a_program_that_fills_the_link_one_request_in_five_seconds_goes_on(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    governor, link, given = Governor(), SimulatedLink(0.01, 6.25e6), list[float]()
    nursery.start_soon(partial(read, governor, link, reads=100_000, thinks_s=0))
    nursery.start_soon(work_ahead, governor, link, given)
    await trio.sleep(30)
    given.clear()
    await trio.sleep(4.5 * PATIENCE_S)
    assert 4 <= len(given) <= 5
    nursery.cancel_scope.cancel()


async def test_memory_is_bounded_even_if_the_link_is_endless(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    governor, link = Governor(), SimulatedLink(1.0, 10e9)
    nursery.start_soon(work_ahead, governor, link)
    held = []
    for _ in range(300):
        await trio.sleep(0.1)
        held.append(governor.held_bytes)
    assert 8 * MIB < max(held) <= MEMORY_BYTES
    assert governor.turn_nowait(link.lake, MEMORY_BYTES) is None
    nursery.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()


async def test_no_lake_has_more_than_sixteen_requests_ahead(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    governor, link = Governor(), SimulatedLink(0.5, 10e9)
    nursery.start_soon(work_ahead, governor, link)
    most = 0
    for _ in range(100):
        await trio.sleep(0.1)
        most = max(most, governor.held_bytes // (64 * KIB))
    assert most >= 16
    turns = [turn for _ in range(40) if (turn := governor.turn_nowait(link.lake, 1)) is not None]
    assert len(turns) <= 16
    nursery.cancel_scope.cancel()


async def test_of_what_a_program_needs_to_start_more_is_tried_until_the_lake_is_known(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    governor, link = Governor(), SimulatedLink(0.01, 6.25e6)

    def turns(*, starting: bool) -> int:
        given = 0
        while (turn := governor.turn_nowait(link.lake, 256 * KIB, starting=starting)) is not None:
            ended.append(turn)
            given += 1
        return given

    ended: list[Turn] = []
    assert turns(starting=False) * 256 * KIB == MIB
    assert (turns(starting=True) + 4) * 256 * KIB == 3 * MIB
    for turn in ended:
        turn.end()
    ended.clear()
    nursery.start_soon(work_ahead, governor, link)
    await trio.sleep(5)
    assert governor.pace(link.lake).known
    nursery.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert turns(starting=True) * 256 * KIB == MIB


async def test_a_cancelled_wait_leaves_no_trace(autojump_clock: trio.testing.MockClock) -> None:
    governor, link = Governor(), SimulatedLink(0.01, 6.25e6)
    with governor.waiting(), trio.move_on_after(1) as waited:
        await governor.turn(link.lake)
    assert waited.cancelled_caught
    with trio.fail_after(0.1):
        (await governor.turn(link.lake)).end()
    assert governor.held_bytes == governor.pace(link.lake).in_flight_bytes == 0


async def test_a_lake_that_fails_gives_its_turn_back(autojump_clock: trio.testing.MockClock) -> None:
    governor, link = Governor(), SimulatedLink(0.01, 6.25e6)
    turn = await governor.turn(link.lake)
    with pytest.raises(OSError, match="broken"), turn, governor.asking(link.lake, 1000, turn):  # noqa: PT012 - one failure
        turn.takes(1000)
        raise OSError("broken")
    assert governor.held_bytes == governor.pace(link.lake).in_flight_bytes == 0
