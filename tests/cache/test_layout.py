"""How a NAR is cut, and the header that says so."""

from __future__ import annotations

from array import array
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.cache.layout import ABSENT, CHECKED, PRESENT, SEGMENT_BYTES, Layout
from narfs.errors import FormatError
from narfs.offsets import ChunkGrid, NarOffset, NarSpan

HASH = bytes(range(32))
equal_grids = st.builds(
    ChunkGrid, st.integers(1, 300_000_000), st.sampled_from([256 * 1024, 1024 * 1024, 3_000_000, 16 * 1024 * 1024])
)
cut_grids = st.lists(st.integers(1, 1024 * 1024), min_size=1, max_size=100).map(
    lambda sizes: ChunkGrid(sum(sizes), max(sizes), array("Q", [0, *accumulate(sizes[:-1])]))
)
grids = equal_grids | cut_grids
layouts = st.builds(
    lambda grid, random_access: Layout.of(HASH, grid, random_access=random_access), grids, st.booleans()
)


@settings(max_examples=100)
@given(grid=grids, data=st.data())
def test_every_byte_lies_in_one_chunk_of_a_sound_grid(grid: ChunkGrid, data: st.DataObject) -> None:
    assert grid.is_sound
    start = data.draw(st.integers(0, grid.nar_size - 1))
    end = data.draw(st.integers(start + 1, grid.nar_size))
    covering = [chunk for chunk in range(grid.count) if grid.span(chunk).end > start and grid.span(chunk).start < end]
    assert list(grid.covering(start, end - start)) == covering
    assert not grid.covering(start, 0)
    inside = [chunk for chunk in covering if grid.span(chunk).start >= start and grid.span(chunk).end <= end]
    assert list(grid.within(NarSpan(NarOffset(start), NarOffset(end)))) == inside


@settings(max_examples=50)
@given(layout=layouts)
def test_segments_cover_all_chunks_once(layout: Layout) -> None:
    chunks = [chunk for segment in range(layout.segments) for chunk in layout.chunks_of(segment)]
    assert chunks == list(range(layout.grid.count))
    assert layout.segments_of(range(layout.grid.count)) == range(layout.segments)
    assert layout.segments_of(range(0)) == range(0)


@settings(max_examples=50)
@given(layout=layouts, data=st.data())
def test_bytes_are_those_of_the_chunks_that_are_there(layout: Layout, data: st.DataObject) -> None:
    states = data.draw(
        st.lists(st.sampled_from([ABSENT, PRESENT, CHECKED]), min_size=layout.grid.count, max_size=layout.grid.count)
        if layout.grid.count < 50
        else st.just([PRESENT] * layout.grid.count)
    )
    sizes: dict[int, int] = {}
    for chunk, state in enumerate(states):
        if state != ABSENT:
            segment = chunk // layout.segment_chunks
            sizes[segment] = sizes.get(segment, 0) + layout.grid.span(chunk).length
    assert layout.bytes_by_segment(bytes(states)) == sizes


def test_a_solid_nar_is_one_segment_and_another_is_cut_into_4_mib() -> None:
    grid = ChunkGrid(100 * SEGMENT_BYTES + 1)
    assert Layout.of(HASH, grid, random_access=False).segments == 1
    assert Layout.of(HASH, grid, random_access=True).segments == 101
    coarse = ChunkGrid(100 * SEGMENT_BYTES, 16 * 1024 * 1024)
    assert Layout.of(HASH, coarse, random_access=True).segments == 25


@settings(max_examples=50)
@given(layout=layouts)
def test_the_header_says_it_all(layout: Layout) -> None:
    assert Layout.from_bytes(layout.to_bytes() + b"the map") == layout
    assert len(layout.to_bytes()) == layout.header_bytes


@pytest.mark.parametrize("cuts", [None, array("Q", [0, 100, 5000])], ids=["equal", "cut"])
def test_every_flipped_bit_of_the_header_is_noticed(cuts: array[int] | None) -> None:
    good = Layout.of(HASH, ChunkGrid(12345, 8000, cuts), random_access=True).to_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            Layout.from_bytes(bytes(bad))


@settings(max_examples=50)
@given(data=st.binary(max_size=100))
def test_garbage_is_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        Layout.from_bytes(data)
