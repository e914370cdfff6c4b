"""Lake, engine, cache and kernel together: what the rooms promise each other holds when they meet."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from narfs.engine.trust import Verify
from narfs.formats.compression import KNOWN
from tests.mount.kernel import needs_root
from tests.support.faults import Fault, Stall
from tests.support.lakes import Lake, Recipe
from tests.support.sealing import add_sealed
from tests.support.server import Server, serve
from tests.support.trees import File, Tree, read_from_disk, trees
from tests.whole.conftest import House, as_program, names, read_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from narfs.engine.store import Store

pytestmark = pytest.mark.mount

NOISE = random.Random(5).randbytes(2_500_000)  # noqa: S311 - any noise will do
PATIENCE_S = 60
STEP = 128 * 1024
TREE: Tree = {b"bin": {b"tool": File(NOISE, executable=True)}, b"motto": File(b"be lazy\n"), b"z": File(b"the last")}


async def read_in_steps(path: Path, size: int, store: Store) -> bytes:
    """Read as a program that stops after each 128 KiB until nothing more is on its way to it."""
    parts = []
    opened = await as_program(os.open, path, os.O_RDONLY)
    try:
        for start in range(0, size, STEP):
            parts.append(await as_program(os.pread, opened, STEP, start))
            with trio.fail_after(PATIENCE_S):
                while store.means.governor.held_bytes:  # noqa: ASYNC110 - nobody is told
                    await trio.sleep(0.001)
    finally:
        await as_program(os.close, opened)
    return b"".join(parts)


async def fails_with(number: int, work: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=r".") as raised:
        await as_program(work)
    assert errno.errorcode[raised.value.errno or 0] == errno.errorcode[number]


async def comes_true(ask: Callable[[], bool]) -> None:
    """Ask as a program would, again and again: what is waited for has no event that a program could see."""
    with trio.fail_after(PATIENCE_S):
        while not await as_program(ask):  # noqa: ASYNC110 - see above
            await trio.sleep(0.05)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees(), compression=st.sampled_from(sorted(KNOWN)), framed=st.booleans())
def test_any_tree_comes_through_lake_engine_and_kernel_as_it_was(tree: Tree, compression: str, framed: bool) -> None:
    async def story() -> None:
        with tempfile.TemporaryDirectory() as directory:
            lake = Lake(Path(directory, "lake"))
            frame_bytes = 4096 if framed and compression != "br" else None
            member = lake.add("tree", tree, Recipe(compression, frame_bytes))
            async with trio.open_nursery() as nursery:
                server: Server = await nursery.start(serve, lake.directory)
                house = House(lake, server, Path(directory))
                for closed in (False, True):
                    async with house.mounted([member.path] if closed else None) as (place, _):
                        assert await as_program(read_from_disk, place / member.path.base_name) == tree
                nursery.cancel_scope.cancel()

    trio.run(story)


async def test_no_byte_of_a_path_is_seen_before_its_last_one_was_checked(house: House) -> None:
    member = house.lake.add("tree", TREE, Recipe("none"))
    stall = Stall(after=2_000_000)
    house.server.on("/nar/*", Fault(stall=stall))
    async with house.mounted([member.path]) as (place, _), trio.open_nursery() as nursery:
        read: list[bytes] = []

        async def reader() -> None:
            read.append(await as_program(read_whole, place / member.path.base_name / "motto"))

        nursery.start_soon(reader)
        with trio.fail_after(PATIENCE_S):
            await stall.reached.wait()
        assert (await as_program((place / member.path.base_name).lstat)).st_nlink == 2
        assert read == []
        stall.released.set()
    assert read == [b"be lazy\n"]


async def test_a_wrong_nar_is_eio_and_its_neighbour_is_well(house: House) -> None:
    bad = house.lake.add("bad", TREE, Recipe("none"))
    good = house.lake.add("good", {b"motto": File(b"be good\n")})
    house.server.on(f"/{bad.narinfo.url}", Fault(flip_at=1_000_000))
    async with house.mounted([bad.path, good.path]) as (place, store):
        assert await as_program(names, place) == sorted(os.fsencode(member.path.base_name) for member in (bad, good))
        await fails_with(errno.EIO, partial(read_whole, place / bad.path.base_name / "motto"))
        await fails_with(errno.EIO, partial(os.listdir, place / bad.path.base_name))
        assert await as_program(read_whole, place / good.path.base_name / "motto") == b"be good\n"
        assert store.statistics().counters.passes_begun == 2


async def test_a_path_that_is_pushed_later_appears_in_an_open_view(house: House) -> None:
    tree: Tree = {b"motto": File(b"late\n")}
    elsewhere = Lake(house.directory / "elsewhere")
    path = elsewhere.add("late", tree).path
    async with house.mounted() as (place, _):
        await fails_with(errno.ENOENT, (place / path.base_name).lstat)
        house.lake.add("late", tree)
        await comes_true((place / path.base_name).exists)
        assert await as_program(read_whole, place / path.base_name / "motto") == b"late\n"


async def test_a_lake_in_trouble_is_eio_and_never_enoent(house: House) -> None:
    member = house.lake.add("tree", TREE)
    house.server.on("/*", Fault(status=500))
    async with house.mounted() as (place, _):
        await fails_with(errno.EIO, (place / member.path.base_name).lstat)
        house.server.behave()
        await comes_true(partial(os.path.exists, place / member.path.base_name))


MAPS = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
for line in sys.stdin:
    print(mapped[:4096] == mapped[:4096], flush=True)
"""


async def test_what_was_shown_too_early_is_taken_back(house: House) -> None:
    member = house.lake.add("tree", TREE, Recipe("none"))
    stall = Stall(after=len(member.nar) - 10_000)
    house.server.on("/nar/*", Fault(stall=stall, flip_at=len(member.nar) - 5))
    async with house.mounted(verify=Verify.PROGRESSIVE) as (place, _):
        tool = place / member.path.base_name / "bin" / "tool"
        command = [sys.executable, "-c", MAPS, str(tool)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:  # noqa: ASYNC220 - 1 ms
            assert await as_program(still_reads, program)
            stall.released.set()
            await comes_true(lambda: not still_reads(program))
            await as_program(program.wait)
        assert program.returncode == -signal.SIGBUS
        await fails_with(errno.EIO, partial(read_whole, tool))


def is_eio(descriptor: int) -> bool:
    try:
        os.pread(descriptor, 100, 1_000_000)
    except OSError as error:
        return error.errno == errno.EIO
    return False


def still_reads(program: subprocess.Popen[bytes]) -> bool:
    """Let the program look at the page it has mapped; False if that was its end."""
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        program.stdin.write(b"look\n")
        program.stdin.flush()
    except BrokenPipeError:
        return False
    return program.stdout.readline() == b"True\n"


@pytest.mark.parametrize("by_erofs", [False, pytest.param(True, marks=needs_root)])
async def test_a_small_cache_serves_more_than_it_holds(house: House, by_erofs: bool) -> None:
    members = [
        house.lake.add(f"n{number}", {b"data": File(bytes([number]) + NOISE[:1_500_000])}, Recipe(compression))
        for number, compression in enumerate(["none", "zstd", "none", "xz"])
    ]
    paths = [member.path for member in members] if by_erofs else None
    async with house.mounted(paths, budget_bytes=3_300_000, by_erofs=by_erofs) as (place, store):
        for _ in range(2):
            for number, member in enumerate(members):
                data = await as_program(read_whole, place / member.path.base_name / "data")
                assert data == bytes([number]) + NOISE[:1_500_000]
        assert store.means.cache is not None
        assert store.means.cache.statistics().evicted_bytes > 0


@needs_root
async def test_an_image_is_made_of_parts_that_are_ready(house: House) -> None:
    one = house.lake.add("one", {b"x" * 200 + b"%d" % number: File(b"%d" % number) for number in range(100)})
    other = house.lake.add("other", {b"a": File(b"a")})
    twin = house.lake.add("twin", {b"a": File(b"a")})

    def parts() -> dict[str, int]:
        return {part.name: part.stat().st_ino for part in (house.directory / "cache").rglob("*.part")}

    async with house.mounted([one.path], by_erofs=True):
        await comes_true(lambda: len(parts()) == 1)
        before = await as_program(parts)
    async with house.mounted([one.path, other.path, twin.path], by_erofs=True) as (place, _):
        await comes_true(lambda: len(parts()) == 2)
        assert before.items() <= (await as_program(parts)).items()
        for member in (one, other, twin):
            assert await as_program(read_from_disk, place / member.path.base_name) == member.tree


@pytest.mark.parametrize("by_erofs", [pytest.param(True, marks=needs_root), False], ids=["erofs", "tree"])
async def test_a_bad_part_of_a_sealed_lake_is_eio_and_nothing_else_of_it_is(house: House, *, by_erofs: bool) -> None:
    tree: Tree = {b"a": File(NOISE[:300_000]), b"m": File(NOISE[300_000:600_000]), b"z": File(NOISE[600_000:900_000])}
    bad = add_sealed(house.lake, "bad", tree, house.lake.secret_key)
    good = add_sealed(house.lake, "good", {b"motto": File(b"be good\n"), b"none": File()}, house.lake.secret_key)
    house.server.on(f"/{bad.narinfo.url}", Fault(flip_at=700_000))
    async with house.mounted([bad.path, good.path], sealed=True, by_erofs=by_erofs) as (place, _):
        assert await as_program(read_whole, place / bad.path.base_name / "a") == NOISE[:300_000]
        await fails_with(errno.EIO, partial(read_whole, place / bad.path.base_name / "z"))
        assert await as_program(read_whole, place / bad.path.base_name / "m") == NOISE[300_000:600_000]
        assert await as_program(read_whole, place / bad.path.base_name / "a") == NOISE[:300_000]
        assert await as_program(read_whole, place / good.path.base_name / "motto") == b"be good\n"
        assert await as_program(read_whole, place / good.path.base_name / "none") == b""


@pytest.mark.parametrize("by_erofs", [pytest.param(True, marks=needs_root), False], ids=["erofs", "tree"])
async def test_who_reads_forward_is_fetched_ahead_for_and_gets_what_is_there(house: House, *, by_erofs: bool) -> None:
    small = {b"%03d" % number: File(NOISE[:9000]) for number in range(200)}
    tree: Tree = {b"large": File(NOISE * 6), b"small": dict(small)}
    member = add_sealed(house.lake, "tree", tree, house.lake.secret_key, frame_bytes=256 * 1024)
    async with house.mounted([member.path], sealed=True, by_erofs=by_erofs) as (place, store):
        shown = place / member.path.base_name
        assert await read_in_steps(shown / "large", 6 * len(NOISE), store) == NOISE * 6
        asked = house.server.asked("/nar/*")
        assert len(asked) <= 40  # a request for each chunk were 60
        assert sum(one.sent_bytes for one in asked) < 1.05 * 6 * len(NOISE)
        assert store.statistics().counters.ahead_used_bytes > 0.9 * 6 * len(NOISE)
        house.server.log.clear()
        for name, file in small.items():
            assert await read_in_steps(shown / "small" / name.decode(), 9000, store) == file.contents
        assert len(house.server.asked("/nar/*")) <= 20  # of 29 chunks
        counters = store.statistics().counters
        assert counters.range_fetched_nar_bytes < 1.1 * len(member.nar)


async def test_everything_read_once_needs_no_lake_after_a_restart(house: House) -> None:
    members = [house.lake.add(f"n{number}", TREE, Recipe(kind)) for number, kind in enumerate(["none", "zstd"])]
    paths = [member.path for member in members]
    async with house.mounted(paths) as (place, _):
        for path in paths:
            assert await as_program(read_from_disk, place / path.base_name) == TREE
    house.server.log.clear()
    async with house.mounted(paths) as (place, _):
        for path in paths:
            assert await as_program(read_from_disk, place / path.base_name) == TREE
    assert house.server.log == []


async def test_what_was_opened_in_a_stream_that_broke_off_is_not_read_at_its_old_place(house: House) -> None:
    member = house.lake.add("tree", {b"a": File(NOISE), b"z": File(b"the last")}, Recipe("none"))
    other = house.lake.add("other", {b"a": File(NOISE[:-64]), b"z": File(NOISE)}, Recipe("none"))
    house.server.on("/nar/*", Fault(), times=1)  # the peek
    house.server.on("/nar/*", Fault(body_of=f"/{other.narinfo.url}", cut_after=len(NOISE) + 5_000), times=1)
    house.server.on("/nar/*", Fault(status=500), times=1)
    async with house.mounted(verify=Verify.PROGRESSIVE) as (place, store):
        opened = await as_program(os.open, place / member.path.base_name / "a", os.O_RDONLY)
        try:
            await comes_true(lambda: store.statistics().counters.passes_failed == 1)
            await trio.sleep(1.1)  # what failed is remembered for a second
            assert await as_program(is_eio, opened)
            assert await as_program(read_whole, place / member.path.base_name / "a") == NOISE
        finally:
            await as_program(os.close, opened)


async def test_pages_of_a_stream_that_broke_off_and_was_never_compared_are_taken_back(house: House) -> None:
    member = house.lake.add("tree", {b"a": File(NOISE), b"z": File(NOISE[::-1])}, Recipe("none"))
    stall = Stall(after=len(member.nar) - 10_000)
    house.server.on("/nar/*", Fault(), times=1)  # the peek
    house.server.on("/nar/*", Fault(stall=stall, flip_at=1000, cut_after=len(member.nar) - 5_000), times=1)
    house.server.on("/nar/*", Fault(status=500), times=1)
    async with house.mounted(verify=Verify.PROGRESSIVE) as (place, store):
        file = place / member.path.base_name / "a"
        assert await as_program(read_whole, file) != NOISE, "a wrong byte is what progressive allows"
        stall.released.set()
        await comes_true(lambda: store.statistics().counters.passes_failed == 1)
        await trio.sleep(1.1)  # what failed is remembered for a second
        assert await as_program(read_whole, file) == NOISE
