"""A sealed index whose pages come one by one: what is here is what the whole index says."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.errors import Corrupt, FormatError
from narfs.formats.frames import FrameTable
from narfs.formats.seal import PROLOGUE_BYTES, head_end, open_head, seal, unseal, unseal_beginning
from narfs.formats.sealed_pages import PagedIndex
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.offsets import ChunkGrid, NarSpan
from tests.support import trees
from tests.support.sealing import Sealed, huge_index, seal_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from narfs.formats.frames import Frame
    from narfs.formats.index import NarIndex
    from tests.support.trees import Tree

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
MIB = 1 << 20


def seen(index: NarIndex, start: int, length: int) -> Iterator[tuple[object, ...]]:
    """What a reader of a span looks at: its chunks, their digests, the frames they are in and all chunks of those."""
    for chunk in index.grid.covering(start, length):
        span = index.grid.span(chunk)
        frames: list[Frame] = [] if index.frames is None else index.frames.covering(span)
        yield chunk, span, index.digest(chunk), frames
        if frames:
            whole = index.grid.within(NarSpan(frames[0].nar, frames[-1].nar + frames[-1].nar_length))  # type: ignore[arg-type]  # an offset
            yield from ((each, index.grid.span(each), index.digest(each)) for each in whole)


def variants(sealed: Sealed) -> Iterator[tuple[NarIndex, dict[str, object]]]:
    """The index as push writes it, and as a lake sealed in place has it: frames of others, longer than chunks; none."""
    yield sealed.index, {}
    size = len(sealed.nar)
    grid = ChunkGrid(size, 100)
    digests = b"".join(
        hashlib.sha256(sealed.nar[start : start + 100]).digest() for start in range(0, size, grid.chunk_bytes)
    )
    nar = array("Q", [*range(0, size, 730), size])
    table = FrameTable("zstd", 10_000_000, array("Q", range(5, 5 + 9 * len(nar), 9)), nar)
    plain = replace(sealed.index, grid=grid, digests=digests)
    yield replace(plain, frames=table), {"file_size": table.blob_size}
    yield replace(plain, frames=None), {"compression": "none"}


@settings(max_examples=30, deadline=None)
@given(trees.trees(), st.integers(1, 4), st.data())
def test_what_a_span_needs_is_there_once_its_missing_pages_are(
    tree: Tree, page_chunks: int, data: st.DataObject
) -> None:
    sealed = seal_tree("x", tree, frame_bytes=128)
    for index, changes in variants(sealed):
        narinfo = replace(sealed.narinfo, **changes)  # type: ignore[arg-type]  # fields by name
        encoded = seal(index, narinfo, [KEY], page_chunks=page_chunks)
        whole = unseal(encoded, narinfo, KEYS)
        end = head_end(encoded[:PROLOGUE_BYTES])
        paged = unseal_beginning(encoded[: end + data.draw(st.integers(0, 200))], narinfo, KEYS)
        assert paged.index.listing == whole.listing
        for _ in range(5):
            start = data.draw(st.integers(0, whole.nar_size - 1))
            length = data.draw(st.integers(1, min(500, whole.nar_size - start)))
            for page in paged.missing(start, length):
                paged.fill(page, encoded[slice(*paged.head.page_span(page))])
            assert not paged.missing(start, length)
            assert list(seen(paged.index, start, length)) == list(seen(whole, start, length))
        for page in paged.unfilled:
            paged.fill(page, encoded[slice(*paged.head.page_span(page))])
        assert not paged.unfilled
        assert paged.index == whole
        assert paged.index.to_bytes() == whole.to_bytes()


def test_of_a_nar_of_100_gb_a_span_needs_one_page() -> None:
    index, narinfo, _ = huge_index(100_000 * MIB)
    encoded = seal(index, narinfo, [KEY])
    end = head_end(encoded[:PROLOGUE_BYTES])
    assert end < 16 * 1024
    paged = PagedIndex(open_head(encoded[:end], narinfo, KEYS))
    start = 54_321 * MIB + 12_345
    [page] = paged.missing(start, 128 * 1024)
    first, last = paged.head.page_span(page)
    assert last - first == 160 * 1024
    paged.fill(page, encoded[first:last])
    assert list(seen(paged.index, start, 128 * 1024)) == list(seen(index, start, 128 * 1024))


def test_pages_that_are_not_the_signed_ones_or_lie_about_their_lengths_are_refused() -> None:
    sealed = seal_tree("x", {b"a": trees.File(b"a" * 3000)}, frame_bytes=128)
    encoded = seal(sealed.index, sealed.narinfo, [KEY], page_chunks=4)
    paged = unseal_beginning(encoded[: head_end(encoded)], sealed.narinfo, KEYS)
    spans = [slice(*paged.head.page_span(page)) for page in range(paged.head.pages)]
    before = paged.index.to_bytes()
    with pytest.raises(Corrupt):
        paged.fill(0, encoded[spans[1]])
    for lengths in ((0, 256, 128, 128), (127, 128, 128, 128), (129, 128, 128, 127), (128, 128, 128, 129)):
        page = b"".join(length.to_bytes(4, "little") for length in lengths) + encoded[spans[0]][16:]
        digests = hashlib.sha256(page).digest() + bytes(paged.head.page_digests[32:])
        wrong = PagedIndex(replace(paged.head, page_digests=memoryview(digests)))
        with pytest.raises(FormatError):
            wrong.fill(0, page)
    assert paged.index.to_bytes() == before
