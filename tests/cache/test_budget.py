"""Who must leave: decided without a disk."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.cache.budget import INDEX, Room, Unit, choose

sizes = st.integers(0, 1 << 40)
units = st.lists(st.builds(Unit, st.binary(min_size=1, max_size=1), st.integers(INDEX, 3), st.integers(0, 100)))


def room(*, used: int = 0, budget: int = 100, free: int = 1000, keep_free: int = 0) -> Room:
    return Room(used, budget, free, keep_free)


def test_what_fits_needs_no_eviction() -> None:
    assert room(used=40).excess(60) == 0
    assert room(used=40).permits(60, oversize=False)


def test_the_worse_of_budget_and_floor_counts() -> None:
    assert room(used=40).excess(70) == 10
    assert room(used=40, free=100, keep_free=60).excess(70) == 30
    assert room(used=40, free=100, keep_free=60).lack(70) == 30


def test_one_nar_may_exceed_the_budget_but_not_a_second() -> None:
    assert room(used=100).permits(500, oversize=True)
    assert not room(used=100).permits(500, oversize=False)
    assert not room(used=101).permits(500, oversize=True)


def test_nothing_exceeds_the_floor() -> None:
    assert not room(free=100, keep_free=60).permits(41, oversize=True)


@settings(max_examples=60)
@given(used=sizes, budget=sizes, free=sizes, keep_free=sizes, incoming=sizes)
def test_what_has_no_excess_is_permitted(used: int, budget: int, free: int, keep_free: int, incoming: int) -> None:
    there = Room(used, budget, free, keep_free)
    assert (there.excess(incoming) == 0) == there.permits(incoming, oversize=False)
    assert there.slack() <= max(budget // 64, 0)


def test_the_oldest_go_until_it_is_enough() -> None:
    old, middle, new = Unit(b"a", 0, 10), Unit(b"b", 0, 10), Unit(b"c", 0, 10)
    assert choose([old, middle, new], 11, set()) == [old, middle]
    assert choose([old, middle, new], 0, set()) == []
    assert choose([old, middle, new], 11, {(b"a", 0)}) == [middle, new]


@settings(max_examples=100)
@given(
    oldest_first=units,
    wanted=st.integers(-5, 1000),
    pinned=st.sets(st.tuples(st.binary(max_size=1), st.integers(-1, 3))),
)
def test_a_choice_is_a_shortest_prefix_without_the_pinned(
    oldest_first: list[Unit], wanted: int, pinned: set[tuple[bytes, int]]
) -> None:
    free = [unit for unit in oldest_first if unit[:2] not in pinned]
    chosen = choose(oldest_first, wanted, pinned)
    assert chosen == free[: len(chosen)]
    assert sum(unit.size for unit in chosen[:-1]) < max(wanted, 1)
    assert sum(unit.size for unit in chosen) >= wanted or chosen == free
