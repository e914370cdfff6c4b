"""What a View learns of what is read of it, without a mount."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs.cache.profiles import Profiles
from narfs.daemon.ahead import Ahead, running
from narfs.daemon.profiles.learner import learner_of
from narfs.daemon.selection import PathName, Selection
from narfs.engine.ahead.bringing import Allowance
from narfs.errors import Closing, UsageError
from narfs.formats.profile import Place
from narfs.formats.profile_object import read_profile
from narfs.mount.inodes import Inodes
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.support.trees import Directory, File

if TYPE_CHECKING:
    from narfs.daemon.config import Config
    from narfs.daemon.profiles.learner import Learner
    from narfs.daemon.session import Session
    from narfs.formats.store_path import StorePath
    from tests.daemon.conftest import Place as Daemon

TREE: Directory = {b"bin": {b"sh": File(b"x" * 200_000)}, b"etc": File(b"y")}


def selected(*paths: StorePath) -> Selection:
    return Selection(closed=True, paths=tuple(PathName(path.hash_part, path) for path in paths))


async def made(session: Session, config: Config, *paths: StorePath, name: str | None = None) -> tuple[Scene, Learner]:
    members = await session.members(selected(*paths))
    accessors = await session.accessors(members)
    for _, accessor in accessors:
        await accessor.settle()
    scene = Scene(View.of(accessors, inodes=Inodes()))
    learner = learner_of(session, config, scene, accessors, members, Allowance(), name=name)
    assert learner is not None
    return scene, learner


def read(scene: Scene, path: StorePath, *names: bytes, start: int = 0, length: int = 1) -> None:
    """Note a read as handlers do."""
    attachment = scene.view.named(path.base_name.encode())
    assert attachment is not None
    listing = attachment.accessor.listing
    assert listing is not None
    node = listing.find(b"/".join(names))
    assert node is not None
    path_reads = scene.reads.of(attachment)
    scene.reads.later(path_reads.read, node, listing.node(node).size, start, length)


def kept(place: Daemon, name: str) -> list[tuple[Place, int, int]]:
    profile = read_profile(Profiles(place.common.cache_dir).load(name))[1]
    return [(read.place, read.first, read.last) for read in profile.reads]


async def test_what_was_read_is_kept_by_name_file_and_block(place: Daemon) -> None:
    one, other = place.lake.add("bash-5.2", TREE).path, place.lake.add("bash-5.2", TREE | {b"z": File()}).path
    first, second = sorted([one, other])
    async with place.session(place.common) as session:
        scene, learner = await made(session, place.common, one, other)
        assert learner.name == "bash"
        read(scene, second, b"bin", b"sh", start=140_000)
        read(scene, first, b"etc")
        read(scene, second, b"bin", b"sh")
        read(scene, second, b"bin", b"sh", length=200_000)
        await learner.learn()
    sh = Place("bash-5.2", 1, b"bin/sh")
    assert kept(place, "bash") == [(sh, 1, 1), (Place("bash-5.2", 0, b"etc"), 0, 0), (sh, 0, 0)]


async def test_a_view_of_which_nothing_was_read_teaches_nothing(place: Daemon) -> None:
    path = place.lake.add("bash-5.2", TREE).path
    async with place.session(place.common) as session:
        _, learner = await made(session, place.common, path, name="hello.drv")
        assert learner.name == "hello.drv"
        await learner.learn()
    assert Profiles(place.common.cache_dir).all() == []


async def test_what_a_view_learned_that_goes_on_is_not_forgotten(place: Daemon) -> None:
    path = place.lake.add("bash-5.2", TREE).path
    async with place.session(place.common) as session:
        scene, learner = await made(session, place.common, path)
        read(scene, path, b"bin", b"sh")
        await learner.learn()
        scene, learner = await made(session, place.common, path)
        learner.goes_on = True
        read(scene, path, b"etc")
        await learner.learn()
    assert [where.file for where, _, _ in kept(place, "bash")] == [b"bin/sh", b"etc"]


async def test_views_with_stores_of_their_own_learn_by_themselves(place: Daemon) -> None:
    path = place.private.add("bash-5.2", TREE).path
    netrc = place.netrc("me:right")
    config = place.config(place.server.url, netrc=netrc)
    async with place.session(config) as session:
        scene, learner = await made(session, config, path)
        assert learner.name.startswith("bash.")
        assert learner.name != "bash"
        read(scene, path, b"etc")
        await learner.learn()
        named = replace(config, profile="mine")
        assert (await made(session, named, path))[1].name == "mine"
    assert [one.name for one in Profiles(place.common.cache_dir).all()] == [learner.name]


async def test_an_open_view_learns_nothing_and_one_that_shall_not_neither(place: Daemon) -> None:
    async with place.session(place.common) as session:
        scene = Scene(View(closed=False), session.store)
        assert learner_of(session, place.common, scene, [], [], Allowance()) is None
        with pytest.raises(UsageError, match="open view"):
            learner_of(session, replace(place.common, profile="mine"), scene, [], [], Allowance())
        closed = Scene(View.of([], inodes=Inodes()))
        assert learner_of(session, replace(place.common, profile="none"), closed, [], [], Allowance()) is None


async def test_a_disk_that_takes_nothing_is_nobodys_failure(place: Daemon) -> None:
    path = place.lake.add("bash-5.2", TREE).path
    async with place.session(place.common) as session:
        scene, learner = await made(session, place.common, path)
        read(scene, path, b"etc")
        (place.common.cache_dir / "profile").write_bytes(b"")
        await learner.learn()


async def test_a_disk_that_hangs_is_not_waited_for(
    place: Daemon, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    path = place.lake.add("bash-5.2", TREE).path
    async with place.session(place.common) as session:
        mock_clock.rate = 1
        _, learner = await made(session, place.common, path)
        file = Profiles(place.common.cache_dir)._file(learner.name)
        file.parent.mkdir(exist_ok=True)
        os.mkfifo(file)  # hangs until somebody writes into it
        mock_clock.autojump_threshold = 0.01
        await learner.learn()
        assert "more than 10 s" in caplog.text
        await trio.to_thread.run_sync(file.write_bytes, b"")


async def test_it_judges_by_each_read_once(place: Daemon) -> None:
    path = place.lake.add("bash-5.2", TREE).path
    async with place.session(place.common) as session:
        scene, learner = await made(session, place.common, path)
        blocks: list[list[int]] = []
        for start in (0, 0, 140_000):
            read(scene, path, b"bin", b"sh", start=start)
            blocks.append([block for _, _, block, _ in learner._new_reads()])
    assert blocks == [[0], [], [1]]


async def test_a_view_that_has_ended_takes_no_more_work(place: Daemon) -> None:
    path = place.lake.add("bash-5.2", TREE).path
    done = trio.Event()

    async def work() -> None:
        done.set()

    async with place.session(place.common) as session:
        members = await session.members(selected(path))
        accessors = await session.accessors(members)
        scene = Scene(View.of(accessors, inodes=Inodes()))
        ahead = Ahead(session, place.common, scene, accessors, members)
        ahead.start(work)  # before it runs: it waits
        async with running(ahead):
            with trio.fail_after(60):
                await done.wait()
        with pytest.raises(Closing, match="the view has ended"):
            ahead.start(work)
