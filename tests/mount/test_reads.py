"""What is kept of reads is what was read: a model with a set of bytes agrees, and memory ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from narfs.mount import reads as module
from narfs.mount.fuse import Handlers, Stage
from narfs.mount.path_reads import BLOCK_BYTES, PART_BYTES, PathReads, blocks_of
from narfs.mount.reads import FirstRead, Miss, Reads
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.model import MemoryAccessor, path
from tests.mount.test_handlers import CTX, lookup, scene_of
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from trio.testing import MockClock

    from narfs.mount.view import Attachment

SIZES = (1, PART_BYTES, PART_BYTES + 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES - 7)
TREE: Tree = {b"%d" % number: File(b"x" * size) for number, size in enumerate(SIZES)}
SMALL: Tree = {
    b"a": File(b"a" * 10),
    b"b": {b"c": File(b"c" * 20), b"d": File(), b"e": Symlink(b"c")},
    b"f": File(b"f" * 30),
    b"g": File(b"g" * 40),
}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def attachment_of(tree: Tree) -> Attachment:
    return View.of([(path("one"), MemoryAccessor(tree))]).attachments[0]


def recording(tree: Tree) -> tuple[Reads, PathReads]:
    reads = Reads(Clock())
    return reads, reads.of(attachment_of(tree))


def blocks(reads: Reads) -> list[tuple[int, int, bool]]:
    return [(each.node, each.block, each.wanted) for each in reads.first_reads()]


@given(st.lists(st.tuples(st.integers(0, len(SIZES) - 1), st.integers(0), st.integers(0)), max_size=30))
def test_every_part_that_was_read_is_kept_and_each_block_once(drawn: list[tuple[int, int, int]]) -> None:
    reads, of_path = recording(TREE)
    parts: dict[int, set[int]] = {}
    order: list[tuple[int, int]] = []
    asked = 0
    for number, at, to in drawn:
        start = at % SIZES[number]
        length = 1 + to % (SIZES[number] - start)
        of_path.read(number + 1, SIZES[number], start, length)
        asked += length
        touched = range(start // PART_BYTES, (start + length - 1) // PART_BYTES + 1)
        order += [(number + 1, part // 8) for part in touched]
        parts.setdefault(number + 1, set()).update(touched)
    assert blocks(reads) == [(node, block, True) for node, block in dict.fromkeys(order)]
    assert of_path.asked_bytes == asked
    kept = {
        file.node: {8 * block + bit for block, bits in enumerate(file.parts) for bit in range(8) if bits & 1 << bit}
        for file in of_path.files()
    }
    assert kept == parts
    assert of_path.distinct_bytes == sum(
        min(SIZES[node - 1] - part * PART_BYTES, PART_BYTES) for node, touched in parts.items() for part in touched
    )
    assert of_path.wanted_files == of_path.opened_files == len(parts)


def test_first_reads_say_when_and_where() -> None:
    reads, of_path = recording(TREE)
    of_path.later(of_path.read, 5, SIZES[4], BLOCK_BYTES, 1)
    reads.settle()
    assert list(reads.first_reads()) == [FirstRead(1.0, of_path.attachment, 5, 1, wanted=True)]


def test_what_came_along_is_told_from_what_was_wanted() -> None:
    reads, of_path = recording(SMALL)
    nodes = {bytes(name): node for name, node in named(of_path.attachment)}
    a, c, f, g = (nodes[name] for name in (b"a", b"b/c", b"f", b"g"))
    of_path.read(a, 10, 0, 10)
    of_path.came_along(range(c, f + 1), 2, 50)
    assert blocks(reads) == [(a, 0, True), (c, 0, False), (f, 0, False)]
    assert counts(of_path) == (3, 1, 60, 60)
    # Again, further, and what was numbered before: nothing is noted twice.
    of_path.came_along(range(a, g + 1), 4, 100)
    assert blocks(reads) == [(a, 0, True), (c, 0, False), (f, 0, False), (g, 0, False)]
    assert counts(of_path) == (4, 1, 160, 100)
    of_path.read(f, 30, 0, 30)
    assert len(blocks(reads)) == 4
    assert counts(of_path) == (4, 2, 190, 100)
    assert {(file.node, file.wanted, file.parts) for file in of_path.files()} == {
        (a, True, b"\1"),
        (c, False, b"\1"),
        (f, True, b"\1"),
        (g, False, b"\1"),
    }


def counts(of_path: PathReads) -> tuple[int, int, int, int]:
    return of_path.opened_files, of_path.wanted_files, of_path.asked_bytes, of_path.distinct_bytes


def named(attachment: Attachment) -> list[tuple[bytes, int]]:
    listing = attachment.accessor.listing
    assert listing is not None
    return list(listing.walk())


def test_a_node_that_became_another_file_gets_another_number() -> None:
    reads, of_path = recording(TREE)
    of_path.opened(1, 10)
    of_path.read(1, 10 * BLOCK_BYTES, 9 * BLOCK_BYTES, 1)
    of_path.read(1, 10, 0, 1)
    assert blocks(reads) == [(1, 9, True), (1, 0, True)]


@pytest.mark.parametrize("bound", ["_MOST_FILES", "_MOST_BLOCKS", "_MOST_FIRST_READS"])
def test_what_is_too_much_is_still_counted(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, bound, 2)
    reads, of_path = recording(TREE)
    for node in range(1, 5):
        of_path.read(node, 10, 0, 10)
    assert of_path.asked_bytes == 40
    assert blocks(reads) == [(1, 0, True), (2, 0, True)]
    assert reads.left_out == 2


def test_blocks() -> None:
    assert [blocks_of(size) for size in (0, *SIZES)] == [0, 1, 1, 1, 1, 2, 5]


async def test_the_mount_notes_files_reads_and_waits(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    accessor = MemoryAccessor(TREE, verified=False)
    ops = Handlers(Stage(Scene(View.of([(path("one"), accessor)]))))
    reads = scene_of(ops).reads
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lookup, ops, "one", b"5")
        await trio.sleep(2)
        accessor.verify()
    (attachment,) = scene_of(ops).view.attachments
    assert reads.misses() == [Miss(0.0, attachment, None, 0, 0, 2.0)]
    entry = await lookup(ops, "one", b"5")
    opened = await ops.open(entry.st_ino, 0, CTX)
    await ops.release(opened.fh)
    assert (reads.asked_bytes, reads.of(attachment).wanted_files) == (0, 1)
    opened = await ops.open(entry.st_ino, 0, CTX)
    await ops.read(opened.fh, 0, BLOCK_BYTES)
    accessor.stall()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ops.read, opened.fh, 4 * BLOCK_BYTES, BLOCK_BYTES)
        await trio.sleep(3)
        accessor.verify()
    reads.settle()
    assert [(each.at_s, each.block) for each in reads.first_reads()] == [(2.0, 0), (2.0, 4)]
    assert reads.misses()[1:] == [Miss(2.0, attachment, 6, 4 * BLOCK_BYTES, BLOCK_BYTES - 7, 3.0)]
    assert (reads.of(attachment).waits, reads.of(attachment).waited_s) == (3, 5.0)
    assert reads.asked_bytes == 2 * BLOCK_BYTES - 7
