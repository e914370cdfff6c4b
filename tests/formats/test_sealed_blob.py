from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.formats.compression import decoder
from narfs.formats.frames import decode_frame
from narfs.formats.listing import Kind
from narfs.formats.zstd_frames import FrameEnd, ZstdWalker
from narfs.offsets import NarOffset, NarSpan
from tests.support import trees
from tests.support.sealing import seal_tree
from tests.support.trees import ODD_TREE, File, Tree

if TYPE_CHECKING:
    from narfs.formats.frames import Frame
    from tests.support.sealing import Sealed

FRAME = 1024
MIXED: Tree = {
    b"a": File(b"small"),
    b"b": File(bytes(range(256)) * 20),  # more than four frames
    b"c": {b"%02d" % number: File(b"x" * number) for number in range(60)},
    b"d": File(b"y" * (FRAME // 2)),
    b"e": File(b"z" * (FRAME // 2 - 1)),
    b"f": File(b"w" * FRAME),
    b"g": File(b"v" * (2 * FRAME - 1)),
}


def frames_of(sealed: Sealed) -> list[Frame]:
    assert sealed.index.frames is not None
    return sealed.index.frames.covering(NarSpan(NarOffset(0), NarOffset(len(sealed.nar))))


@settings(max_examples=50)
@given(trees.trees(), st.integers(1, 3000))
def test_the_blob_is_the_nar_however_it_was_fed(tree: Tree, piece_bytes: int) -> None:
    sealed = seal_tree("x", tree, frame_bytes=FRAME, piece_bytes=piece_bytes)
    decode = decoder("zstd", nar_size=len(sealed.nar))
    assert b"".join(decode.feed(sealed.blob)) == sealed.nar
    decode.finish()
    assert sealed == seal_tree("x", tree, frame_bytes=FRAME)


@pytest.mark.parametrize("tree", [MIXED, ODD_TREE, File(b"contents" * 500), {}], ids=["mixed", "odd", "file", "empty"])
def test_every_frame_is_a_chunk_and_stands_for_itself(tree: Tree) -> None:
    sealed = seal_tree("x", tree, frame_bytes=FRAME)
    frames = frames_of(sealed)
    assert [(frame.nar, frame.nar + frame.nar_length) for frame in frames] == [
        tuple(sealed.index.grid.span(chunk)) for chunk in range(sealed.index.grid.count)
    ]
    for frame in frames:
        blob = sealed.blob[frame.blob : frame.blob + frame.blob_length]
        assert blob[4] & 0x04, "no checksum"
        contents = decode_frame("zstd", blob, frame.nar_length)
        assert contents == sealed.nar[frame.nar : frame.nar + frame.nar_length]
        assert 0 < len(contents) <= FRAME


def test_large_files_have_their_frames_for_themselves_and_small_ones_share_smaller_frames() -> None:
    frame_bytes = 8 * FRAME
    sealed = seal_tree("x", MIXED, frame_bytes=frame_bytes)
    frames = frames_of(sealed)
    starts = {frame.nar for frame in frames}
    listing = sealed.index.listing
    files = [listing.node(node) for _, node in listing.walk() if listing.kind(node) is Kind.REGULAR]
    large = {file.nar_offset for file in files if file.size >= frame_bytes // 4}
    small = {file.nar_offset for file in files} - large
    assert large <= starts
    for frame in frames:
        if frame.nar_length > frame_bytes // 4:
            assert not small & set(range(frame.nar, frame.nar + frame.nar_length))
    assert len(starts) < len(files) / 2


def test_other_tools_find_the_seek_table_at_the_end() -> None:
    sealed = seal_tree("x", MIXED, frame_bytes=FRAME)
    frames = frames_of(sealed)
    count, flags, magic = struct.unpack("<IBI", sealed.blob[-9:])
    assert (count, flags, magic) == (len(frames), 0, 0x8F92EAB1)
    start = len(sealed.blob) - 9 - 8 * count - 8
    assert struct.unpack_from("<II", sealed.blob, start) == (0x184D2A5E, 8 * count + 9)
    entries = list(struct.iter_unpack("<II", sealed.blob[start + 8 : -9]))
    assert entries == [(frame.blob_length, frame.nar_length) for frame in frames]


def test_a_pass_over_the_blob_learns_the_same_frames() -> None:
    sealed = seal_tree("x", MIXED, frame_bytes=FRAME)
    decode = decoder("zstd", nar_size=len(sealed.nar))
    for _ in decode.feed(sealed.blob):
        pass
    decode.finish()
    assert decode.frames() == sealed.index.frames
    ends = [step for step in ZstdWalker(1 << 20).feed(memoryview(sealed.blob)) if isinstance(step, FrameEnd)]
    assert all(end.content_size is not None for end in ends)
