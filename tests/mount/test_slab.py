"""The slab of a View: the same bytes as its files, and no file that suffers for its neighbours."""

from __future__ import annotations

import errno
import random
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.errors import Corrupt, TooSlow, Unavailable
from narfs.formats.erofs.slab import SlabMap
from narfs.mount import slab as module
from narfs.mount.scene import Scene
from narfs.mount.slab import Slab
from narfs.mount.view import View
from narfs.offsets import SlabOffset
from tests.mount.frontends import mounted_by_erofs
from tests.mount.kernel import PATIENCE_S, needs_fuse, needs_root, sys_
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import File, Tree, trees

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from narfs.offsets import NarOffset

BLOCK = 4096
SMALL: Tree = {b"%03d" % number: File(b"%d" % number * 100) for number in range(40)}


class FailingAccessor(MemoryAccessor):
    """Has no byte of what lies in ``bad``: it fails, or never comes."""

    def __init__(self, tree: Tree, trouble: Exception | None, *, bad: bytes) -> None:
        super().__init__(tree, inline=False)
        self.bad = self.nar.index(bad), self.nar.index(bad) + len(bad)
        self.trouble_there = trouble
        self.reads: list[tuple[int, int]] = []

    async def read(self, start: NarOffset, length: int) -> bytes:
        self.reads.append((start, start + length))
        if start < self.bad[1] and self.bad[0] < start + length:
            await trio.lowlevel.checkpoint()
            if self.trouble_there is None:
                await trio.sleep_forever()
            else:
                raise self.trouble_there
        return await super().read(start, length)


def slab_of(*accessors: MemoryAccessor, read_deadline_s: float = 120) -> Slab:
    view = View.of((path(f"p{number}"), accessor) for number, accessor in enumerate(accessors))
    ranges, at = [], 0
    for attachment in view.attachments:
        assert attachment.accessor.listing is not None
        blocks = SlabMap(attachment.accessor.listing).range_blocks
        ranges.append((at, blocks, attachment))
        at += blocks
    return Slab(Scene(view, read_deadline_s=read_deadline_s), ranges)


def model_of(slab: Slab) -> bytes:
    whole = bytearray(slab.size)
    for attachment in slab._attachments:
        accessor = attachment.accessor
        assert isinstance(accessor, MemoryAccessor)
        listing = accessor.listing
        assert listing is not None
        base = slab._starts[slab._attachments.index(attachment)]
        for node, start in enumerate(SlabMap(listing).starts):
            found = listing.node(node)
            if found.nar_offset:
                at = base + start * BLOCK
                whole[at : at + found.size] = accessor.nar[found.nar_offset : found.nar_offset + found.size]
    return bytes(whole)


@settings(max_examples=60)
@given(several=st.lists(trees(), max_size=3), inline=st.booleans(), data=st.data())
async def test_any_part_of_a_slab_is_the_contents_there_and_zeros(
    several: list[Tree], inline: bool, data: st.DataObject
) -> None:
    slab = slab_of(*(MemoryAccessor(tree, inline=inline) for tree in several))
    model = model_of(slab)
    offset = data.draw(st.integers(0, slab.size))
    size = data.draw(st.integers(0, 300_000))
    assert await slab.read(SlabOffset(offset), size) == model[offset : offset + size]


async def test_small_neighbours_come_in_one_read_and_are_counted_each() -> None:
    accessor = FailingAccessor(SMALL, None, bad=b"type")
    accessor.bad = (0, 0)
    slab = slab_of(accessor)
    assert await slab.read(SlabOffset(0), 32 * BLOCK) == model_of(slab)[: 32 * BLOCK]
    assert len(accessor.reads) == 1
    (attachment,) = slab._attachments
    slab._scene.reads.settle()
    reads = slab._scene.reads.of(attachment)
    assert (reads.wanted_files, len(list(reads.files()))) == (1, 32)
    assert reads.asked_bytes == sum(len(b"%d" % number) * 100 for number in range(32))


async def test_the_first_read_in_a_large_nar_lets_others_have_their_turns() -> None:
    many: Tree = {b"%05d" % number: File(b"x") for number in range(20_000)}
    slab = slab_of(MemoryAccessor(many, inline=True))
    last = SlabOffset(19_999 * BLOCK)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        turns = 0
        assert await slab.read(last, 1) == b"x"
        assert turns >= 10
        turns = 0
        assert await slab.read(SlabOffset(0), 1) == b"x"
        assert turns == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("trouble", [Corrupt("bad"), Unavailable("down"), None])
async def test_a_file_is_neither_late_nor_failed_because_of_its_neighbours(
    trouble: Exception | None, mock_clock: MockClock
) -> None:
    mock_clock.autojump_threshold = 0
    slab = slab_of(FailingAccessor(SMALL, trouble, bad=b"7" * 100))
    model = model_of(slab)
    with pytest.raises(Unavailable, match="read ahead"):
        await slab.read(SlabOffset(0), 32 * BLOCK)
    assert trio.current_time() <= 1.1
    for page in (0, 6, 8):
        assert await slab.read(SlabOffset(page * BLOCK), BLOCK) == model[page * BLOCK : (page + 1) * BLOCK]
    assert trio.current_time() <= 1.1
    with pytest.raises(TooSlow if trouble is None else type(trouble)):
        await slab.read(SlabOffset(7 * BLOCK), 8 * BLOCK)


async def test_what_failed_is_not_waited_for_again_at_once(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    accessor = FailingAccessor(SMALL, None, bad=b"7" * 100)
    slab = slab_of(accessor, read_deadline_s=10)
    for page in (7, 7):
        with pytest.raises(TooSlow):
            await slab.read(SlabOffset(page * BLOCK), BLOCK)
    assert trio.current_time() == pytest.approx(10)
    await trio.sleep(1.5)
    with pytest.raises(TooSlow):
        await slab.read(SlabOffset(7 * BLOCK), BLOCK)
    assert trio.current_time() == pytest.approx(21.5)


@pytest.mark.mount
@needs_fuse
@needs_root
@pytest.mark.parametrize("trouble", [Corrupt("bad"), None])
async def test_the_kernel_fails_the_bad_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception | None
) -> None:
    monkeypatch.setattr(module, "_NEIGHBOURS_S", 0.1)  # the rest of a second and a half is for a busy machine
    accessor = FailingAccessor(SMALL, trouble, bad=b"7" * 100)
    view = View.of([(path("one"), accessor)])

    def read(name: str) -> bytes | int | None:
        try:
            return (tmp_path / "m" / path("one").base_name / name).read_bytes()
        except OSError as error:
            return error.errno

    async with mounted_by_erofs(view, tmp_path / "m", read_deadline_s=1.5):
        found = {}
        for number in range(40):
            found[number] = await sys_(partial(read, f"{number:03}"))
        assert found.pop(7) == errno.EIO
        assert found == {number: b"%d" % number * 100 for number in range(40) if number != 7}


@pytest.mark.mount
@needs_fuse
@needs_root
async def test_the_kernel_keeps_the_pages_of_files_and_not_those_of_the_slab_too(tmp_path: Path) -> None:
    contents = random.Random(4).randbytes(3_000_000)  # noqa: S311 - any will do
    view = View.of([(path("one"), MemoryAccessor({b"file": File(contents)}, inline=True))])
    file = tmp_path / "m" / path("one").base_name / "file"

    async def kept_pages() -> int:
        (slab,) = images._slabs[0]._slabs
        told = await trio.run_process(
            ["fincore", "--noheadings", "--output=PAGES", tmp_path / "slabs" / str(slab)], capture_stdout=True
        )
        return int(told.stdout)

    async with mounted_by_erofs(view, tmp_path / "m") as images:
        assert await sys_(file.read_bytes) == contents
        with trio.fail_after(PATIENCE_S):
            while await kept_pages():  # noqa: ASYNC110 - the kernel has no event for it
                await trio.sleep(0.1)
        asked = images.statistics().requests["read"]
        assert await sys_(file.read_bytes) == contents
        assert images.statistics().requests["read"] == asked
