"""How a NAR is cut, and the header that says so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.cache.layout import ABSENT, CHECKED, HEADER_BYTES, PRESENT, SEGMENT_BYTES, Layout
from narfs.errors import FormatError
from narfs.offsets import ChunkGrid

HASH = bytes(range(32))
layouts = st.builds(
    lambda size, chunk, random_access: Layout.of(HASH, ChunkGrid(size, chunk), random_access=random_access),
    st.integers(1, 300_000_000),
    st.sampled_from([256 * 1024, 1024 * 1024, 3_000_000, 16 * 1024 * 1024]),
    st.booleans(),
)


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
    assert len(layout.to_bytes()) == HEADER_BYTES


def test_every_flipped_bit_of_the_header_is_noticed() -> None:
    good = Layout.of(HASH, ChunkGrid(12345), random_access=True).to_bytes()
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
