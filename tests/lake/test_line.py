"""What a line gives to those who want it at the same time."""
# ruff: noqa: ARG001 - what the clock is for is that nobody waits for it

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs.lake.line import Line

if TYPE_CHECKING:
    from trio.testing import MockClock

    from narfs.lake.line import Lane

RATE = 1_000_000


async def carried_s(lane: Lane, nbytes: int) -> float:
    begun = trio.current_time()
    await lane.carry(nbytes)
    return trio.current_time() - begun


async def all_carried_s(*wanted: tuple[Lane, int]) -> list[float]:
    """Carry all at once; tell when each was through."""
    took = [0.0] * len(wanted)

    async def one(number: int, lane: Lane, nbytes: int) -> None:
        took[number] = await carried_s(lane, nbytes)

    async with trio.open_nursery() as nursery:
        for number, (lane, nbytes) in enumerate(wanted):
            nursery.start_soon(one, number, lane, nbytes)
            await trio.testing.wait_all_tasks_blocked()
    return took


async def test_a_lane_alone_has_the_whole_line(autojump_clock: MockClock) -> None:
    line = Line(RATE)
    line.lane()
    assert await carried_s(line.lane(), 5 * RATE) == pytest.approx(5, rel=0.02)


async def test_lanes_share_by_weight_while_they_want_it(autojump_clock: MockClock) -> None:
    line = Line(RATE)
    took = await all_carried_s((line.lane(1), RATE), (line.lane(3), 3 * RATE), (line.lane(1), RATE // 2))
    assert took == pytest.approx([4.5, 4.5, 2.5], rel=0.06)


async def test_a_little_does_not_wait_for_much_nor_does_who_was_idle_catch_up(autojump_clock: MockClock) -> None:
    line = Line(RATE)
    much, little = line.lane(), line.lane()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(much.carry, 10 * RATE)
        await trio.sleep(3)
        assert await carried_s(little, 1000) < 0.05
        assert await carried_s(little, RATE) == pytest.approx(2, rel=0.03)


async def test_several_of_one_lane_have_what_one_has(autojump_clock: MockClock) -> None:
    line = Line(RATE)
    one, other = line.lane(), line.lane()
    took = await all_carried_s(*[(one, RATE)] * 3, (other, RATE))
    assert took[3] == pytest.approx(2, rel=0.1)
    assert max(took) == pytest.approx(4, rel=0.02)


async def test_who_gives_up_leaves_the_line_to_the_others(autojump_clock: MockClock) -> None:
    line = Line(RATE)
    for patience_s in (0.0, 0.005, 0.015, 0.5):
        with trio.move_on_after(patience_s):
            await all_carried_s(*[(line.lane(), RATE)] * 3)
        await trio.sleep(1)
        assert await carried_s(line.lane(), RATE) == pytest.approx(1, rel=0.06)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(line.lane().carry, RATE))
            assert await carried_s(line.lane(), RATE // 10) < 0.3
