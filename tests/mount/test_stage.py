"""One session, many Views: each in a directory of the root, bound to where people want it, coming and going."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Closing, NotFound, UsageError
from narfs.mount.fuse import Stage, serve_mount
from narfs.mount.inodes import ROOT
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.kernel import PATIENCE_S, in_namespace, needs_fuse, needs_root, read_tree, sys_, unmount
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TREE: Tree = {b"bin": {b"run": File(b"#!", executable=True)}, b"link": Symlink(b"bin/run"), b"text": File(b"x" * 5000)}
OTHER: Tree = {b"other": File(b"y")}


def show(stage: Stage, name: bytes, **accessors: MemoryAccessor) -> View:
    view = View.of([(path(each), accessor) for each, accessor in accessors.items()], inodes=stage.inodes)
    stage.show(name, Scene(view))
    return view


def inodes_of(view: View) -> set[int]:
    found: set[int] = {view.root, view.links}
    for attachment in view.attachments:
        listing = attachment.accessor.listing
        assert listing is not None
        found |= {attachment.attributes(node, listing.shape(node)).inode for node in range(len(listing))}
    return found


async def test_views_share_no_inode_even_of_the_same_nar() -> None:
    stage, accessor = Stage(), MemoryAccessor(TREE)
    one, two = show(stage, b"one", a=accessor), show(stage, b"two", a=accessor)
    assert not inodes_of(one) & inodes_of(two)
    assert ROOT not in inodes_of(one) | inodes_of(two)


async def test_a_name_is_given_once() -> None:
    stage = Stage()
    show(stage, b"one")
    with pytest.raises(UsageError, match="one"):
        show(stage, b"one")


async def test_what_was_removed_is_not_found_and_its_numbers_are_given_to_nobody() -> None:
    stage, accessor = Stage(), MemoryAccessor(TREE)
    before = inodes_of(show(stage, b"one", a=accessor))
    kept = show(stage, b"two", a=accessor)
    await stage.remove(b"one")
    after = show(stage, b"one", a=accessor)
    assert not before & inodes_of(after)
    for inode in before:
        assert inode not in stage.tops
        with pytest.raises(NotFound):
            stage.inodes.at(inode)
    for view in (kept, after):
        assert stage.inodes.at(view.attachments[0].base) == (view.attachments[0], 0)
    assert stage.inodes.nar_bytes == 2 * accessor.nar_size


async def test_whoever_waits_in_a_view_that_is_removed_is_answered(nursery: trio.Nursery) -> None:
    stage, accessor = Stage(), MemoryAccessor(TREE)
    (attachment,) = show(stage, b"one", a=accessor).attachments
    told: list[Exception] = []

    async def wait() -> None:
        with pytest.raises(Closing) as closing:
            await stage.of(attachment).waits.within(60, trio.sleep_forever)
        told.append(closing.value)

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    await stage.remove(b"one")
    assert len(told) == 1
    with pytest.raises(NotFound, match="its view was removed"):
        stage.of(attachment)


@asynccontextmanager
async def serving(stage: Stage, place: Path) -> AsyncIterator[None]:
    await sys_(place.mkdir)
    ready = trio.Event()
    try:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(serve_mount, stage, place, on_ready=lambda _: ready.set()))
                await ready.wait()
                yield
                nursery.cancel_scope.cancel()
    finally:
        unmount(place)


@needs_fuse
async def test_each_directory_shows_its_view_and_no_other(tmp_path: Path) -> None:
    stage, place = Stage(), tmp_path / "m"
    async with serving(stage, place):
        assert await sys_(os.listdir, place) == []
        show(stage, b"one", a=MemoryAccessor(TREE))
        show(stage, b"two", a=MemoryAccessor(TREE), b=MemoryAccessor(OTHER))
        assert sorted(await sys_(os.listdir, place)) == ["one", "two"]
        assert sorted(await sys_(os.listdir, place / "one")) == [path("a").base_name]
        assert await sys_(read_tree, bytes(place / "one" / path("a").base_name)) == TREE
        assert await sys_(read_tree, bytes(place / "two" / path("b").base_name)) == OTHER
        with pytest.raises(FileNotFoundError):
            await sys_(os.stat, place / "one" / path("b").base_name)
        parent, root = (
            await sys_(os.stat, place / "two" / path("b").base_name / ".."),
            await sys_(os.stat, place / "two"),
        )
        assert parent.st_ino == root.st_ino


@needs_fuse
async def test_a_view_that_went_away_is_gone_at_once_and_one_of_its_name_is_new(tmp_path: Path) -> None:
    stage, place = Stage(), tmp_path / "m"
    async with serving(stage, place):
        show(stage, b"one", a=MemoryAccessor(TREE))
        there = place / "one" / path("a").base_name
        assert await sys_(read_tree, bytes(there)) == TREE
        held = await sys_(os.open, there / "bin", os.O_RDONLY)
        await stage.remove(b"one")
        with pytest.raises(FileNotFoundError):
            await sys_(os.listdir, there)
        with pytest.raises(FileNotFoundError):
            await sys_(partial(os.open, "run", os.O_RDONLY, dir_fd=held))
        await sys_(os.close, held)
        show(stage, b"one", a=MemoryAccessor(OTHER))
        assert await sys_(read_tree, bytes(there)) == OTHER


@needs_fuse
@needs_root
async def test_the_directory_of_a_view_bound_elsewhere_is_all_of_the_mount_that_is_seen_there(tmp_path: Path) -> None:
    stage, place = Stage(), tmp_path / "m"
    (tmp_path / "at").mkdir()
    async with serving(stage, place):
        show(stage, b"one", a=MemoryAccessor(TREE))
        show(stage, b"two", a=MemoryAccessor(OTHER))
        told = await in_namespace(
            'mount --bind "$1/one" "$2"; ls "$2"; ls -a "$2/.." | grep -c two || true; cat "$2"/*/text | wc -c',
            place,
            tmp_path / "at",
        )
    assert told.split() == [path("a").base_name, "0", "5000"]
