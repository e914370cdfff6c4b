from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
from pyfuse3 import ROOT_INODE, EntryAttributes, FUSEError

from narfs import errors
from narfs.engine import accessor
from narfs.errors import Closing, Corrupt, NarfsError, Unavailable, Untrusted
from narfs.mount.errnos import ERRNOS
from narfs.mount.fuse import Handlers, Stage
from narfs.mount.fuse.entries import FOREVER_S, UNVERIFIED_S
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.model import MemoryAccessor, MemorySource, path
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

TREE: Tree = {b"file": File(b"0123456789" * 1000), b"dir": {b"deep": File(b"x")}, b"link": Symlink(b"file")}
CTX: Any = None


def handlers(view: View, source: MemorySource | None = None, *, owner: tuple[int, int] = (0, 0)) -> Handlers:
    return Handlers(Stage(Scene(view, source), owner=owner))


def scene_of(ops: Handlers) -> Scene:
    (scene,) = ops.stage.scenes
    return scene


def closed(**accessors: MemoryAccessor) -> Handlers:
    return handlers(View.of((path(name), accessor) for name, accessor in accessors.items()))


async def lookup(ops: Handlers, *names: bytes | str) -> EntryAttributes:
    """Follow names from the root; a str is a store path's name."""
    inode = ROOT_INODE
    for name in names:
        entry = await ops.lookup(inode, name if isinstance(name, bytes) else path(name).base_name.encode(), CTX)
        inode = entry.st_ino
    return entry


async def errno_of(asked: Awaitable[object]) -> int:
    with pytest.raises(FUSEError) as failed:
        await asked
    return failed.value.errno


def every_error() -> set[type[NarfsError]]:
    found, todo = set(), [NarfsError]
    while todo:
        kind = todo.pop()
        found.add(kind)
        todo += kind.__subclasses__()
    return {kind for kind in found if kind.__module__ == errors.__name__}


def test_every_error_has_an_errno() -> None:
    assert set(ERRNOS) == every_error()


async def test_what_is_verified_is_valid_without_end() -> None:
    ops = closed(one=MemoryAccessor(TREE))
    for names in (("one",), ("one", b"file"), ("one", b"dir", b"deep")):
        entry = await lookup(ops, *names)
        assert (entry.entry_timeout, entry.attr_timeout) == (FOREVER_S, FOREVER_S)
        again = await ops.getattr(entry.st_ino, CTX)
        assert (again.st_ino, again.st_mode, again.st_size) == (entry.st_ino, entry.st_mode, entry.st_size)
    assert (await ops.getattr(ROOT_INODE, CTX)).attr_timeout == FOREVER_S


async def test_what_only_a_peek_told_is_valid_for_a_second() -> None:
    accessor = MemoryAccessor(TREE, verified=False)
    ops = closed(one=accessor)
    assert (await lookup(ops, "one")).entry_timeout == UNVERIFIED_S
    assert (await ops.getattr(ROOT_INODE, CTX)).attr_timeout == UNVERIFIED_S
    accessor.verify()
    assert (await lookup(ops, "one")).entry_timeout == FOREVER_S


def test_the_engine_waits_until_the_kernel_has_forgotten_a_wrong_claim() -> None:
    assert accessor._CLAIM_BELIEVED_S > UNVERIFIED_S


async def test_absence_is_an_entry_without_inode() -> None:
    ops = closed(one=MemoryAccessor(TREE))
    for names in (("two",), (b"no store path",), ("one", b"nothing"), (b".links", b"x")):
        entry = await lookup(ops, *names)
        assert (entry.st_ino, entry.entry_timeout) == (0, FOREVER_S)


async def test_absence_from_a_nar_that_is_still_passing_is_believed_for_a_second() -> None:
    passing = MemoryAccessor(TREE, verified=False)
    passing.open.set()
    entry = await lookup(closed(one=passing), "one", b"nothing")
    assert (entry.st_ino, entry.entry_timeout) == (0, UNVERIFIED_S)


async def test_absence_in_an_open_view_is_believed_as_long_as_the_lakes_allow() -> None:
    source = MemorySource(absent_s=17)
    ops = handlers(View(closed=False), source)
    entry = await lookup(ops, "one")
    assert (entry.st_ino, entry.entry_timeout) == (0, 17)
    entry = await lookup(ops, b"README.md")
    assert (entry.st_ino, entry.entry_timeout) == (0, FOREVER_S)
    assert sum(source.asked.values()) == 1


async def test_an_open_view_attaches_by_the_first_lookup_and_asks_no_more() -> None:
    source = MemorySource()
    source.add("one", MemoryAccessor(TREE, verified=False, peeked=False))
    ops = handlers(View(closed=False), source)
    source.paths[path("one")].open.set()  # type: ignore[union-attr]  # it is an accessor
    first, second = await lookup(ops, "one"), await lookup(ops, "one")
    assert first.st_ino == second.st_ino != 0
    assert source.asked[path("one")] == 1


async def test_a_lookup_in_an_open_root_gives_up_after_its_own_deadline(
    autojump_clock: MockClock,  # noqa: ARG001 - pytest-trio looks for it among the arguments
) -> None:
    source = MemorySource()
    source.add("one", MemoryAccessor(TREE, verified=False, peeked=False))
    ops = handlers(View(closed=False), source)
    assert await errno_of(lookup(ops, "one")) == errno.ETIMEDOUT
    assert trio.current_time() == pytest.approx(5)


async def test_a_closed_root_never_waits_and_learns_behind_the_answer(nursery: trio.Nursery) -> None:
    accessor = MemoryAccessor(TREE, verified=False, peeked=False)
    ops = closed(one=accessor)
    nursery.start_soon(scene_of(ops).roots.keep_trying)
    assert await errno_of(lookup(ops, "one")) == errno.EIO
    assert await errno_of(lookup(ops, "one")) == errno.EIO
    await trio.testing.wait_all_tasks_blocked()
    assert accessor.asked["peek"] == 1
    accessor.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (await lookup(ops, "one")).st_ino != 0
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("trouble", [Untrusted("no key"), Corrupt("bad hash")])
async def test_what_asking_again_does_not_heal_is_not_asked_again(trouble: NarfsError) -> None:
    accessor = MemoryAccessor(TREE, verified=False, peeked=False)
    accessor.fail(trouble)
    ops = closed(one=accessor, two=MemoryAccessor(TREE))
    await scene_of(ops).roots.learn_all()
    for _ in range(3):
        assert await errno_of(lookup(ops, "one")) == ERRNOS[type(trouble)]
    assert accessor.asked["peek"] == 1
    assert (await lookup(ops, "two", b"file")).st_ino != 0


async def test_learning_all_roots_takes_no_longer_than_the_deadline(
    autojump_clock: MockClock,  # noqa: ARG001 - pytest-trio looks for it among the arguments
) -> None:
    ops = closed(**{f"p{i}": MemoryAccessor(File(b"%d" % i), verified=False, peeked=False) for i in range(20)})
    await scene_of(ops).roots.learn_all()
    assert trio.current_time() == pytest.approx(5)
    assert await errno_of(lookup(ops, "p7")) == errno.ETIMEDOUT


async def opened(ops: Handlers, *names: bytes | str) -> int:
    return (await ops.open((await lookup(ops, *names)).st_ino, os.O_RDONLY, CTX)).fh


@pytest.mark.parametrize("inline", [True, False])
async def test_a_read_answers_all_its_bytes_up_to_the_end(inline: bool) -> None:
    ops = closed(one=MemoryAccessor(TREE, inline=inline))
    fh = await opened(ops, "one", b"file")
    contents = b"0123456789" * 1000
    for offset, size in ((0, 10), (0, 1 << 20), (9_990, 4096), (9_999, 1), (10_000, 4096), (1 << 40, 1)):
        assert bytes(await ops.read(fh, offset, size)) == contents[offset : offset + size]
    await ops.release(fh)
    assert ops.statistics().open_files == 0


async def test_a_read_without_an_answer_is_too_slow_and_the_kernels_second_try_waits_no_more(
    autojump_clock: MockClock,  # noqa: ARG001 - pytest-trio looks for it among the arguments
) -> None:
    accessor = MemoryAccessor(TREE)
    ops = closed(one=accessor)
    fh = await opened(ops, "one", b"file")
    accessor.stall()
    assert await errno_of(ops.read(fh, 0, 8192)) == errno.ETIMEDOUT
    assert trio.current_time() == pytest.approx(120)
    assert await errno_of(ops.read(fh, 4096, 4096)) == errno.ETIMEDOUT
    assert trio.current_time() == pytest.approx(120)
    assert accessor.asked["read"] == 1
    await trio.sleep(1.1)
    accessor.open.set()
    assert len(await ops.read(fh, 0, 8192)) == 8192


async def test_a_failed_read_leaves_other_parts_of_the_file_alone() -> None:
    accessor = MemoryAccessor(TREE)
    ops = closed(one=accessor)
    fh = await opened(ops, "one", b"file")
    accessor.fail(Unavailable("cut"))
    assert await errno_of(ops.read(fh, 0, 4096)) == errno.EIO
    accessor.trouble = None
    assert len(await ops.read(fh, 4096, 4096)) == 4096


async def test_a_bug_is_an_io_error_with_a_traceback_and_the_next_request_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    accessor = MemoryAccessor(TREE)
    ops = closed(one=accessor)
    fh = await opened(ops, "one", b"file")
    accessor.fail(ZeroDivisionError("oops"))
    assert await errno_of(ops.read(fh, 0, 1)) == errno.EIO
    (record,) = caplog.records
    assert record.exc_info is not None
    assert await errno_of(ops.read(4711, 0, 1)) == errno.EIO
    assert (await lookup(ops, "one")).st_ino != 0


async def test_a_lack_of_memory_is_said_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    accessor = MemoryAccessor(TREE)
    ops = closed(one=accessor)
    fh = await opened(ops, "one", b"file")
    accessor.fail(MemoryError())
    assert await errno_of(ops.read(fh, 0, 1)) == errno.ENOMEM
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [
        ("read: no memory left (ENOMEM)", None)
    ]


async def test_a_failure_is_a_warning_once_and_absence_never(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "narfs.mount.errnos")
    accessor = MemoryAccessor(TREE, verified=False)
    accessor.fail(Corrupt("NarHash differs"))
    ops = closed(one=accessor)
    for _ in range(3):
        assert await errno_of(lookup(ops, "one", b"file")) == errno.EIO
    assert await errno_of(ops.getattr(10**9, CTX)) == errno.ENOENT
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG", "DEBUG", "DEBUG"]
    assert "NarHash differs" in caplog.text
    assert ops.statistics().failures == {"EIO": 3, "ENOENT": 1}


async def test_closing_answers_all_who_wait_and_all_who_come(nursery: trio.Nursery) -> None:
    accessor = MemoryAccessor(TREE)
    ops = closed(one=accessor)
    fh = await opened(ops, "one", b"file")
    accessor.stall()
    told: list[int] = []

    async def read(offset: int) -> None:
        told.append(await errno_of(ops.read(fh, offset, 1)))

    for offset in range(50):
        nursery.start_soon(read, offset)
    await trio.testing.wait_all_tasks_blocked()
    assert ops.statistics().waiting == 50
    await scene_of(ops).waits.close()
    await trio.testing.wait_all_tasks_blocked()
    assert told == [ERRNOS[Closing]] * 50
    assert await errno_of(ops.read(fh, 100, 1)) == errno.ENOTCONN


async def test_a_cancelled_reader_leaves_nothing_waiting() -> None:
    accessor = MemoryAccessor(TREE)
    ops = closed(one=accessor)
    fh = await opened(ops, "one", b"file")
    accessor.stall()
    with trio.move_on_after(0):
        await ops.read(fh, 0, 1)
    assert ops.statistics().waiting == 0


MUTATIONS: list[Callable[[Handlers], Awaitable[object]]] = [
    lambda ops: ops.setattr(1, CTX, CTX, None, CTX),
    lambda ops: ops.mknod(1, b"a", 0, 0, CTX),
    lambda ops: ops.mkdir(1, b"a", 0, CTX),
    lambda ops: ops.unlink(1, b"a", CTX),
    lambda ops: ops.rmdir(1, b"a", CTX),
    lambda ops: ops.symlink(1, b"a", b"b", CTX),
    lambda ops: ops.rename(1, b"a", 1, b"b", 0, CTX),
    lambda ops: ops.link(1, 1, b"b", CTX),
    lambda ops: ops.write(1, 0, b"a"),
    lambda ops: ops.create(1, b"a", 0, 0, CTX),
    lambda ops: ops.open(16, os.O_RDWR, CTX),
]


@pytest.mark.parametrize("mutation", MUTATIONS)
async def test_every_mutation_is_refused(mutation: Callable[[Handlers], Awaitable[object]]) -> None:
    assert await errno_of(mutation(closed(one=MemoryAccessor(TREE)))) == errno.EROFS


async def test_xattrs_flush_and_access_are_left_to_the_kernel() -> None:
    ops = closed(one=MemoryAccessor(TREE))
    for asked in (ops.getxattr(1, b"user.x", CTX), ops.listxattr(1, CTX), ops.flush(1), ops.access(1, 0, CTX)):
        assert await errno_of(asked) == errno.ENOSYS


async def test_below_an_unverified_root_everything_waits_for_the_nar() -> None:
    accessor = MemoryAccessor(TREE, verified=False)
    ops = closed(one=accessor)
    entry = await lookup(ops, "one")
    accessor.open.set()
    found = await ops.lookup(entry.st_ino, b"file", CTX)
    assert found.entry_timeout == UNVERIFIED_S
    assert (await ops.getattr(found.st_ino, CTX)).st_size == 10_000
    link = await ops.lookup(entry.st_ino, b"link", CTX)
    assert await ops.readlink(link.st_ino, CTX) == b"file"
    assert (await ops.lookup(entry.st_ino, b"none", CTX)).st_ino == 0
    handle = await ops.opendir(entry.st_ino, CTX)
    await ops.releasedir(handle)
    assert len(await ops.read((await ops.open(found.st_ino, 0, CTX)).fh, 0, 10)) == 10
    assert accessor.asked.keys() >= {"child", "node", "target", "children"}


async def test_a_directory_cannot_be_opened_as_a_file() -> None:
    ops = closed(one=MemoryAccessor(TREE))
    assert await errno_of(ops.open((await lookup(ops, "one")).st_ino, 0, CTX)) == errno.EISDIR


async def test_the_owner_of_everything_is_the_views() -> None:
    view = View(closed=False)
    view.attach(path("one"), MemoryAccessor(TREE))
    ops = handlers(view, owner=(1000, 100))
    for entry in (await lookup(ops, "one", b"file"), await ops.getattr(ROOT_INODE, CTX), await lookup(ops, b".links")):
        assert (entry.st_uid, entry.st_gid) == (1000, 100)
