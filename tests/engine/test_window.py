"""What is fetched ahead of whom: properties of windows, for readers as kernels and programs are."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from narfs.engine.ahead.window import GROWTH, RUN_MAX_BYTES, RUN_MIN_BYTES, STALE_S, Streams

if TYPE_CHECKING:
    from collections.abc import Iterable

KIB, MIB = 1 << 10, 1 << 20
NAR = 256 * MIB
READ = 128 * KIB
LIMIT = 8 * MIB


class Kernel:
    """Tells streams of reads, one millisecond after the other, and fetches whatever they say."""

    def __init__(self, file_bytes: int = NAR, limit_bytes: int = LIMIT) -> None:
        self.streams = Streams(NAR, lambda offset: min((offset // file_bytes + 1) * file_bytes, NAR))
        self.limit_bytes = limit_bytes
        self.ahead: list[tuple[int, int]] = []
        self.now = 0.0

    def read(self, start: int, length: int = READ, *, missed: bool = True) -> tuple[int, int] | None:
        self.now += 0.001
        ahead = self.streams.read(start, start + length, now=self.now, limit_bytes=self.limit_bytes, missed=missed)
        if ahead is None:
            return None
        ahead.stream.fetched = ahead.span.end
        self.ahead.append((ahead.span.start, ahead.span.end))
        return self.ahead[-1]

    def read_all(self, starts: Iterable[int]) -> None:
        for start in starts:
            self.read(start)

    @property
    def fetched_bytes(self) -> int:
        return sum(end - start for start, end in self.ahead)


def test_what_is_touched_once_is_left_alone() -> None:
    kernel = Kernel()
    chance = random.Random(1)  # noqa: S311 - repeatable
    for _ in range(1000):
        kernel.read(chance.randrange(NAR - READ), 4 * KIB)
        kernel.read(chance.randrange(NAR - 2 * READ), 2 * READ)
    assert kernel.fetched_bytes < 0.01 * 1000 * 2 * READ  # two may be close to each other by chance


def test_the_third_read_in_order_opens_a_window_and_it_grows_to_the_limit() -> None:
    kernel = Kernel()
    assert kernel.read(0) is None
    assert kernel.read(READ) is None
    assert kernel.read(2 * READ) == (3 * READ, 3 * READ + GROWTH * 3 * READ)
    kernel.read_all(range(3 * READ, 32 * MIB, READ))
    place = 32 * MIB
    assert place + LIMIT * 3 / 4 - READ <= kernel.ahead[-1][1] <= place + LIMIT
    sizes = [end - start for start, end in kernel.ahead]
    assert min(sizes[-8:]) >= LIMIT // 4


@given(st.lists(st.integers(1, READ), max_size=200), st.integers(64 * KIB, 16 * MIB))
def test_never_twice_never_more_than_allowed(lengths: list[int], limit: int) -> None:
    kernel, place = Kernel(limit_bytes=limit), 12345
    edge = 0
    for length in lengths:
        ahead = kernel.read(place, length)
        place += length
        if ahead is not None:
            start, end = ahead
            assert max(edge, place) <= start < end <= NAR
            assert end - place <= min(limit, GROWTH * (place - 12345))
            edge = end


@given(st.sets(st.integers(0, 62)))
def test_the_kernel_may_ask_out_of_order(swapped: set[int]) -> None:
    starts = list(range(0, 16 * MIB, READ))
    for pair in swapped:
        starts[2 * pair : 2 * pair + 2] = reversed(starts[2 * pair : 2 * pair + 2])
    kernel = Kernel()
    kernel.read_all(starts)
    assert 16 * MIB + LIMIT / 2 <= kernel.ahead[-1][1] <= 16 * MIB + LIMIT
    assert len(kernel.streams) == 1


def test_several_readers_at_once_have_a_window_each() -> None:
    kernel = Kernel()
    begin = [number * 40 * MIB for number in range(6)]
    for offset in range(0, 16 * MIB, READ):
        kernel.read_all([start + offset for start in begin])
    for start in begin:
        assert any(start + 16 * MIB < end <= start + 16 * MIB + LIMIT for _, end in kernel.ahead)
    assert kernel.fetched_bytes <= 6 * (16 * MIB + LIMIT)


def test_who_jumps_has_no_window() -> None:
    kernel = Kernel()
    for start in range(0, 100 * MIB, 512 * KIB):
        kernel.read(start)
    assert not kernel.ahead


def test_a_window_ends_with_its_file() -> None:
    kernel = Kernel(file_bytes=3 * MIB)
    kernel.read_all(range(3 * MIB, 6 * MIB, READ))
    assert kernel.ahead[-1][1] == 6 * MIB
    assert kernel.fetched_bytes < 3 * MIB


def test_who_walks_over_a_tree_is_followed_from_file_to_file() -> None:
    kernel = Kernel(file_bytes=20 * KIB)
    for start in range(0, 4 * MIB, 20 * KIB):
        kernel.read(start + 200, 20 * KIB - 200)
    assert kernel.ahead[-1][1] >= 4 * MIB + LIMIT / 2


def test_who_touches_files_here_and_there_is_not() -> None:
    kernel = Kernel(file_bytes=20 * KIB)
    for start in range(0, 16 * MIB, 60 * KIB):
        kernel.read(start, 20 * KIB)
    assert not kernel.ahead


def test_hits_move_a_window_on_and_begin_none() -> None:
    kernel = Kernel()
    for start in range(0, 4 * MIB, READ):
        kernel.read(start, missed=False)
    assert len(kernel.streams) == 0
    kernel.read_all(range(0, 4 * READ, READ))
    before = len(kernel.ahead)
    for start in range(4 * READ, 8 * MIB, READ):
        kernel.read(start, missed=False)
    assert len(kernel.ahead) > before


def test_reads_of_a_megabyte_at_random_places_soon_cost_only_themselves() -> None:
    kernel = Kernel()
    chance = random.Random(2)  # noqa: S311 - repeatable
    for _ in range(200):
        begin = chance.randrange(NAR // MIB - 1) * MIB
        kernel.read_all(range(begin, begin + MIB, READ))
    assert kernel.fetched_bytes < 60 * MIB
    kernel.ahead.clear()
    for _ in range(50):
        begin = chance.randrange(NAR // MIB - 1) * MIB
        kernel.read_all(range(begin, begin + MIB, READ))
    assert kernel.fetched_bytes < 25 * MIB
    kernel.read_all(range(0, RUN_MAX_BYTES + MIB, READ))
    assert kernel.ahead[-1][1] > RUN_MAX_BYTES


def test_streams_are_forgotten_when_nobody_comes() -> None:
    kernel = Kernel()
    kernel.read_all(range(0, 4 * READ, READ))
    kernel.now += STALE_S + 1
    kernel.read(100 * MIB, missed=False)
    assert len(kernel.streams) == 0
    assert RUN_MIN_BYTES > 2 * READ
