"""What the kernel keeps: one test for each sentence of docs/semantics.md on caching, waiting and trouble."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Corrupt, TooSlow, Unavailable, Untrusted
from narfs.mount.fuse import handlers as module
from narfs.mount.view import View
from tests.mount.kernel import in_namespace, mounted, needs_fuse, needs_root, run, sys_
from tests.mount.model import MemoryAccessor, MemorySource, path
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from narfs.errors import NarfsError

pytestmark = [pytest.mark.mount, needs_fuse]

TREE: Tree = {b"dir": {b"file": File(b"x" * 100_000), b"link": Symlink(b"file")}, b"empty": {}}
AT_ONCE_S = 0.1
"""What is answered from memory takes no more of a processor; the issue's own number."""


def at(place: Path, name: str, below: str = "") -> Path:
    return place / path(name).base_name / below


async def errno_of(call: Callable[..., object], *args: object) -> int | None:
    with pytest.raises(OSError) as failed:  # noqa: PT011 - the errno is looked at
        await sys_(call, *args)
    return failed.value.errno


async def at_once(asked: Awaitable[object]) -> None:
    """See that it waits for nothing: for what is stalled it would until the mount is given up."""
    started = time.process_time()
    await asked
    assert time.process_time() - started < AT_ONCE_S


async def test_a_second_find_and_a_second_read_ask_for_no_name_no_attribute_and_no_byte(tmp_path: Path) -> None:
    async with mounted(View.of([(path("one"), MemoryAccessor(TREE))]), tmp_path / "m") as handlers:
        for _ in range(2):
            before = handlers.requests.copy()
            await run("find", tmp_path / "m", "-ls")
            await run("find", tmp_path / "m", "-type", "f", "-exec", "cat", "{}", "+")
        asked = handlers.requests - before
        assert set(asked) - {"statfs"} <= {"opendir", "readdir", "releasedir", "open", "release", "readlink"}


async def test_in_a_closed_view_absence_is_kept_by_the_kernel(tmp_path: Path) -> None:
    async with mounted(View.of([(path("one"), MemoryAccessor(TREE))]), tmp_path / "m") as handlers:
        for absent in (at(tmp_path / "m", "two"), at(tmp_path / "m", "one", "dir/none"), tmp_path / "m" / "README"):
            assert await errno_of(os.stat, absent) == errno.ENOENT
            lookups = handlers.requests["lookup"]
            for _ in range(5):
                assert await errno_of(os.stat, absent) == errno.ENOENT
            assert handlers.requests["lookup"] == lookups


async def test_in_an_open_view_absence_is_kept_as_long_as_the_lakes_allow(tmp_path: Path) -> None:
    source = MemorySource(absent_s=1000)
    async with mounted(View(closed=False), tmp_path / "m", source=source):
        for _ in range(3):
            assert await errno_of(os.stat, at(tmp_path / "m", "one")) == errno.ENOENT
        assert source.asked[path("one")] == 1
        source.absent_s = 0
        assert await errno_of(os.stat, at(tmp_path / "m", "two")) == errno.ENOENT
        source.add("two", MemoryAccessor(TREE))
        assert await sys_(os.listdir, at(tmp_path / "m", "two", "dir"))


async def test_a_name_that_is_no_store_path_is_absent_without_a_request(tmp_path: Path) -> None:
    source = MemorySource()
    async with mounted(View(closed=False), tmp_path / "m", source=source) as handlers:
        for _ in range(3):
            assert await errno_of(os.stat, tmp_path / "m" / ".git") == errno.ENOENT
            assert await errno_of(os.stat, tmp_path / "m" / ("n" * 255)) == errno.ENOENT
        assert not source.asked
        assert handlers.requests["lookup"] == 2


async def test_the_root_lists_what_is_attached_or_all_of_a_closed_view(tmp_path: Path) -> None:
    source = MemorySource()
    source.add("one", MemoryAccessor(TREE))
    source.add("two", MemoryAccessor(TREE))
    async with mounted(View(closed=False), tmp_path / "m", source=source):
        assert await sys_(os.listdir, tmp_path / "m") == []
        await sys_(os.stat, at(tmp_path / "m", "two"))
        assert await sys_(os.listdir, tmp_path / "m") == [path("two").base_name]
    accessors = [(path(name), MemoryAccessor(TREE, verified=False)) for name in ("one", "two")]
    async with mounted(View.of(accessors), tmp_path / "m"):
        assert set(await sys_(os.listdir, tmp_path / "m")) == {path("one").base_name, path("two").base_name}


async def test_links_is_an_empty_directory_when_asked_for(tmp_path: Path) -> None:
    async with mounted(View.of([]), tmp_path / "m"):
        assert await sys_(os.listdir, tmp_path / "m") == []
        assert await sys_(os.listdir, tmp_path / "m" / ".links") == []
        assert (await sys_(os.stat, tmp_path / "m" / ".links")).st_nlink == 2
        assert await errno_of(os.stat, tmp_path / "m" / ".links" / "x") == errno.ENOENT


async def test_a_path_of_unknown_kind_is_listed_and_answers_its_trouble_at_once(tmp_path: Path) -> None:
    def kinds() -> dict[str, bool]:
        with os.scandir(tmp_path / "m") as entries:
            return {entry.name: entry.is_dir() or entry.is_file() for entry in entries}

    stalled = MemoryAccessor(TREE, verified=False, peeked=False)
    members = [(path("one"), stalled), (path("two"), MemoryAccessor(File()))]
    async with mounted(View.of(members), tmp_path / "m", root_deadline_s=0.05):
        await at_once(sys_(os.listdir, tmp_path / "m"))
        assert await errno_of(os.stat, at(tmp_path / "m", "one")) == errno.ETIMEDOUT
        with pytest.raises(OSError, match="timed out"):
            await sys_(kinds)
        stalled.verify()
        await trio.testing.wait_all_tasks_blocked()
        assert await sys_(kinds) == {path("one").base_name: True, path("two").base_name: True}


@needs_root
async def test_with_one_path_stalled_the_rest_of_the_root_answers_at_once(tmp_path: Path) -> None:
    """Listing, another path and a create through an overlay; the stalled one has readers inside."""
    stalled = MemoryAccessor({b"other": File()}, verified=False)
    m = tmp_path / "m"
    for name in ("upper", "merged", "other"):
        (tmp_path / name).mkdir()
    view = View.of([(path("stalled"), stalled), (path("one"), MemoryAccessor(TREE))])
    async with mounted(view, m, root_deadline_s=120) as handlers, trio.open_nursery() as nursery:
        nursery.start_soon(sys_, os.listdir, str(at(m, "stalled")))
        nursery.start_soon(sys_, os.path.exists, at(m, "stalled", "other"))
        while handlers.statistics().waiting < 1:  # the second of the two waits for the first, in the kernel
            await trio.lowlevel.checkpoint()
        await at_once(sys_(os.listdir, m))
        await at_once(sys_(os.stat, at(m, "one", "dir/file")))
        await at_once(sys_(os.stat, at(m, "stalled")))
        await at_once(errno_of(os.stat, at(m, "three")))
        made = await in_namespace(
            """
            mount -t tmpfs tmpfs "$1/upper"; mkdir "$1/upper/u" "$1/upper/w"
            mount -t overlay overlay -o "lowerdir=$1/m,upperdir=$1/upper/u,workdir=$1/upper/w" "$1/merged"
            : > "$1/merged/new"; mkdir "$1/merged/dir"
            ls "$1/merged"
            """,
            tmp_path,
        )
        assert {"new", "dir"} < {*made.splitlines()}
        stalled.verify()


@pytest.mark.parametrize(
    ("trouble", "number"),
    [(Corrupt("NarHash"), errno.EIO), (Untrusted("key"), errno.EACCES), (Unavailable("503"), errno.EIO)],
)
async def test_a_path_in_trouble_gives_its_errno_and_leaves_the_others_alone(
    tmp_path: Path, trouble: NarfsError, number: int
) -> None:
    bad = MemoryAccessor({b"other": TREE}, verified=False)
    bad.fail(trouble)
    source = MemorySource()
    source.add("bad", bad)
    source.add("refused", trouble)
    source.add("good", MemoryAccessor(TREE))
    async with mounted(View(closed=False), tmp_path / "m", source=source):
        assert await errno_of(os.stat, at(tmp_path / "m", "refused")) == number
        assert await errno_of(os.listdir, at(tmp_path / "m", "bad")) == number
        assert await errno_of(os.stat, at(tmp_path / "m", "bad", "dir/file")) == number
        assert len(await sys_(at(tmp_path / "m", "good", "dir/file").read_bytes)) == 100_000


async def test_a_stalled_read_is_too_slow_after_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ASKED_TWICE_S", 60.0)  # so long a busy machine may take
    accessor = MemoryAccessor(TREE)
    async with mounted(View.of([(path("one"), accessor)]), tmp_path / "m", read_deadline_s=0.05) as handlers:
        accessor.stall()
        assert await errno_of(at(tmp_path / "m", "one", "dir/file").read_bytes) == errno.ETIMEDOUT
        assert handlers.statistics().failures["ETIMEDOUT"] >= 1
        assert accessor.asked["read"] == 1, "the kernel's second try was answered from memory"


async def test_a_bug_in_one_answer_does_not_end_the_mount(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    accessor = MemoryAccessor(TREE)
    async with mounted(View.of([(path("one"), accessor)]), tmp_path / "m"):
        accessor.fail(ZeroDivisionError("a bug"))
        assert await errno_of(at(tmp_path / "m", "one", "dir/file").read_bytes) == errno.EIO
        assert "ZeroDivisionError" in caplog.text
        assert await sys_(os.listdir, at(tmp_path / "m", "one", "dir")) == ["file", "link"]


@pytest.mark.parametrize("error", [TooSlow("slow"), Unavailable("gone")])
async def test_a_failed_lookup_is_asked_again(tmp_path: Path, error: NarfsError) -> None:
    source = MemorySource()
    source.add("one", error)
    async with mounted(View(closed=False), tmp_path / "m", source=source):
        assert await errno_of(os.stat, at(tmp_path / "m", "one")) in (errno.ETIMEDOUT, errno.EIO)
        source.add("one", MemoryAccessor(TREE))
        await sys_(os.stat, at(tmp_path / "m", "one"))
