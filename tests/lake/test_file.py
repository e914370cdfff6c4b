from __future__ import annotations

import os
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from narfs.errors import Corrupt, NotFound, TooSlow, Unavailable, Untrusted
from narfs.lake.file import FileTransport
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl
from narfs.offsets import BlobOffset
from tests.lake.fake_server import chunks, stream_all

if TYPE_CHECKING:
    from pathlib import Path

BLOB = bytes(range(256)) * 12_000  # 3 MB


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    lake = tmp_path / "lake"
    (lake / "nar").mkdir(parents=True)
    (lake / "nix-cache-info").write_bytes(b"StoreDir: /nix/store\n")
    (lake / "nar" / "x.nar").write_bytes(BLOB)
    return lake


@pytest.fixture
def lake(directory: Path) -> FileTransport:
    return FileTransport(StoreUrl.parse(str(directory)), LakeSettings())


async def test_objects_are_read_whole_as_streams_and_in_ranges(lake: FileTransport) -> None:
    assert await lake.get("nix-cache-info", max_bytes=100) == b"StoreDir: /nix/store\n"
    assert await stream_all(lake, "nar/x.nar") == BLOB
    assert await stream_all(lake, "nar/x.nar", 1_234_567) == BLOB[1_234_567:]
    assert await stream_all(lake, "nar/x.nar", len(BLOB)) == b""
    assert await lake.read_range("nar/x.nar", BlobOffset(1_000_001), 2_000_000) == BLOB[1_000_001:3_000_001]
    assert await lake.read_beginning("nar/x.nar", 1_000_000) == BLOB[:1_000_000]
    assert await lake.read_beginning("nar/x.nar", len(BLOB) + 1) == BLOB
    assert await lake.exists("nar/x.nar")
    assert lake.statistics().in_flight == 0


async def test_pieces_have_1_mib(lake: FileTransport) -> None:
    async with lake.stream("nar/x.nar") as pieces:
        assert [len(piece) async for piece in pieces] == [1024 * 1024, 1024 * 1024, len(BLOB) - 2 * 1024 * 1024]


async def test_bounds_are_kept(lake: FileTransport) -> None:
    with pytest.raises(Corrupt, match="longer than 10 bytes"):
        await lake.get("nix-cache-info", max_bytes=10)
    with pytest.raises(Corrupt, match="it ends at"):
        await lake.read_range("nar/x.nar", BlobOffset(len(BLOB) - 5), 6)


@pytest.mark.parametrize("name", ["none.narinfo", "nar/none.nar", "nix-cache-info/below"])
async def test_what_is_not_there_is_absent(lake: FileTransport, name: str) -> None:
    assert not await lake.exists(name)
    with pytest.raises(NotFound):
        await lake.get(name, max_bytes=100)
    with pytest.raises(NotFound):
        await lake.read_range(name, BlobOffset(0), 1)
    with pytest.raises(NotFound):
        await stream_all(lake, name)


async def test_in_a_lake_that_is_not_mounted_nothing_is_absent(tmp_path: Path) -> None:
    lake = FileTransport(StoreUrl.parse(str(tmp_path)), LakeSettings())
    with pytest.raises(Unavailable, match="is its disk mounted"):
        await lake.get("x.narinfo", max_bytes=100)


async def test_symlinks_inside_are_followed_and_those_that_lead_out_are_refused(
    directory: Path, lake: FileTransport, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (directory / "nar" / "inside").symlink_to("../nar/x.nar")
    (directory / "nar" / "outside").symlink_to(tmp_path / "secret")
    (directory / "above").symlink_to("..")
    (directory / "loop").symlink_to("loop")
    assert await stream_all(lake, "nar/inside") == BLOB
    for name in ("nar/outside", "above/secret", "../secret", "above/lake/../secret"):
        with pytest.raises(Untrusted, match="leads out of the lake"):
            await lake.get(name, max_bytes=100)
        with pytest.raises(Untrusted):
            await lake.exists(name)
        with pytest.raises(Untrusted):
            await lake.put(name, chunks(b"x"), 1)
    with pytest.raises(Unavailable):
        await lake.get("loop", max_bytes=100)
    assert (tmp_path / "secret").read_bytes() == b"secret"


async def test_a_lake_may_itself_be_reached_by_a_symlink(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(directory)
    lake = FileTransport(StoreUrl.parse(str(tmp_path / "link")), LakeSettings())
    assert await stream_all(lake, "nar/x.nar") == BLOB


async def test_a_directory_can_say_what_it_has(directory: Path, lake: FileTransport) -> None:
    for name in ("b.narinfo", "a.narinfo", "a.ls"):
        (directory / name).write_bytes(b"x")
    assert await lake.names(".narinfo") == ["a.narinfo", "b.narinfo"]


async def test_only_regular_files_count(directory: Path, lake: FileTransport) -> None:
    os.mkfifo(directory / "pipe")
    for name in ("pipe", "nar"):
        with pytest.raises(Unavailable, match="no regular file"):
            await lake.get(name, max_bytes=100)
        assert not await lake.exists(name)


async def test_a_silent_disk_is_too_slow(directory: Path, lake: FileTransport, autojump_clock: object) -> None:  # noqa: ARG001 - pytest-trio finds it here
    lake._threads.total_tokens = 1
    await lake._threads.acquire()
    with pytest.raises(TooSlow, match="gave nothing for 30 s"):
        await lake.get("nix-cache-info", max_bytes=100)
    lake._threads.release()
    assert (directory / "nix-cache-info").exists()


async def test_what_is_put_appears_whole_under_its_name(directory: Path, lake: FileTransport) -> None:
    await lake.put("nar/deep/y.nar", chunks(BLOB[:5], BLOB[5:]), len(BLOB))
    await lake.put("nar/deep/y.nar", chunks(b"new"), 3)
    assert (directory / "nar" / "deep" / "y.nar").read_bytes() == b"new"
    assert [file.name for file in (directory / "nar" / "deep").iterdir()] == ["y.nar"]
    assert lake.statistics().sent_bytes_total == len(BLOB) + 3


async def test_a_new_lake_is_made_by_the_first_put(tmp_path: Path) -> None:
    lake = FileTransport(StoreUrl.parse(str(tmp_path / "new" / "lake")), LakeSettings())
    assert not await lake.exists("nix-cache-info")
    await lake.put("nix-cache-info", chunks(b"StoreDir: /nix/store\n"), 21)
    assert await lake.exists("nix-cache-info")


def temporaries(directory: Path) -> list[Path]:
    return [file for file in directory.rglob("*") if ".tmp." in file.name]


async def test_small_objects_appear_together_whole_and_alone(directory: Path, lake: FileTransport) -> None:
    objects = {"nar/a.nar": b"a", "b.ls": b"", "c.narinfo": bytes(100_000)}
    await lake.put_small(objects)
    await lake.put_small({"b.ls": b"again"})
    assert {name: await lake.get(name, max_bytes=2**20) for name in objects} == objects | {"b.ls": b"again"}
    assert not temporaries(directory)


async def test_of_small_objects_nothing_half_is_left_when_one_has_no_place(
    directory: Path, lake: FileTransport
) -> None:
    (directory / "b.ls").mkdir()
    with pytest.raises(Unavailable, match="directory"):
        await lake.put_small({"a.ls": b"a", "b.ls": b"b"})
    assert not temporaries(directory)


async def test_small_objects_do_not_leave_the_lake(directory: Path, lake: FileTransport, tmp_path: Path) -> None:
    (directory / "out").symlink_to(tmp_path)
    with pytest.raises(Untrusted):
        await lake.put_small({"out/x": b"x"})
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("size", [3, 5])
async def test_a_put_of_another_length_leaves_nothing(directory: Path, lake: FileTransport, size: int) -> None:
    async with aclosing(chunks(b"12", b"34")) as upload:
        with pytest.raises(Corrupt, match="not as long as announced"):
            await lake.put("nar/y.nar", upload, size)
    assert [file.name for file in (directory / "nar").iterdir()] == ["x.nar"]


async def test_a_cancelled_put_leaves_nothing(directory: Path, lake: FileTransport) -> None:
    begun = trio.Event()

    class Endless:
        def __aiter__(self) -> Endless:
            return self

        async def __anext__(self) -> bytes:
            begun.set()
            await trio.sleep(3600)
            return b""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lake.put, "nar/y.nar", Endless(), 5)
        await begun.wait()
        await wait_all_tasks_blocked()
        assert len(list((directory / "nar").iterdir())) == 2
        nursery.cancel_scope.cancel()
    assert [file.name for file in (directory / "nar").iterdir()] == ["x.nar"]
    assert lake.statistics().in_flight == 0


async def test_a_file_that_is_replaced_is_read_on_as_it_was(directory: Path, lake: FileTransport) -> None:
    async with lake.stream("nar/x.nar") as pieces:
        first = await anext(pieces)
        await lake.put("nar/x.nar", chunks(b"new"), 3)
        assert first + b"".join([piece async for piece in pieces]) == BLOB
    assert (directory / "nar" / "x.nar").read_bytes() == b"new"
