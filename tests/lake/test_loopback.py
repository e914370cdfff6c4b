"""The same promises over real sockets: resets, cuts and stalls that only a kernel can make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import NotFound, TooSlow, Unavailable
from narfs.lake.settings import LakeSettings
from narfs.lake.upstreams import open_lakes
from narfs.offsets import BlobOffset
from tests.lake.fake_server import collect
from tests.support.faults import Fault, Stall
from tests.support.lakes import Lake, Recipe
from tests.support.server import Server, serve
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from narfs.formats.narinfo import NarInfo
    from narfs.lake.binary_cache import BinaryCache
    from tests.support.lakes import Member

CONTENTS = bytes(range(256)) * 12_000  # 3 MB


@pytest.fixture
def member(tmp_path: Path) -> Member:
    return Lake(tmp_path).add("big", File(CONTENTS), Recipe(compression="none", listing=True))


@pytest.fixture
async def server(nursery: trio.Nursery, tmp_path: Path, member: Member) -> Server:
    del member  # it has to be there first
    started: Server = await nursery.start(serve, tmp_path)
    return started


@pytest.fixture
async def lake(server: Server) -> AsyncIterator[BinaryCache]:
    async with open_lakes([server.url], LakeSettings(stall_deadline_s=1)) as upstreams:
        yield upstreams.lakes[0]


async def blob(lake: BinaryCache, narinfo: NarInfo) -> bytes:
    async with lake.open_blob(narinfo) as pieces:
        return await collect(pieces)


async def test_a_lake_is_read_over_one_connection(lake: BinaryCache, server: Server, member: Member) -> None:
    narinfo = await lake.narinfo(member.path.hash_part)
    assert narinfo == member.narinfo
    assert await blob(lake, narinfo) == member.nar
    assert await lake.read_blob(narinfo, BlobOffset(1_000_000), 5000) == member.nar[1_000_000:1_005_000]
    assert b"narOffset" in await lake.listing(member.path.hash_part)
    with pytest.raises(NotFound):
        await lake.narinfo("0" * 32)
    assert server.statistics().connections_total == 1


@pytest.mark.parametrize("fault", [Fault(cut_after=1_500_000), Fault(reset_after=1_500_000)])
@pytest.mark.parametrize("ignore_range", [False, True])
async def test_a_torn_stream_is_whole(
    lake: BinaryCache, server: Server, member: Member, fault: Fault, ignore_range: bool
) -> None:
    server.on("/nar/*", fault, times=1)
    if ignore_range:
        server.on("/nar/*", Fault(ignore_range=True))
    assert await blob(lake, member.narinfo) == member.nar
    assert len(server.asked("/nar/*")) == 2


async def test_a_stalled_stream_is_taken_up_again(lake: BinaryCache, server: Server, member: Member) -> None:
    server.on("/nar/*", Fault(stall=Stall(after=1_500_000)), times=1)
    assert await blob(lake, member.narinfo) == member.nar


async def test_a_lake_that_only_stalls_is_too_slow(lake: BinaryCache, server: Server, member: Member) -> None:
    server.on("/nar/*", Fault(stall=Stall()))
    with pytest.raises(TooSlow):
        await lake.read_blob(member.narinfo, BlobOffset(0), 100)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
async def test_small_objects_are_decoded_and_blobs_refused(
    lake: BinaryCache, server: Server, member: Member, encoding: str
) -> None:
    server.on("*", Fault(content_encoding=encoding))
    assert b"narOffset" in await lake.listing(member.path.hash_part)
    with pytest.raises(Unavailable, match="Content-Encoding"):
        await blob(lake, member.narinfo)


async def test_a_range_that_lies_is_not_used(lake: BinaryCache, server: Server, member: Member) -> None:
    server.on("/nar/*", Fault(content_range="bytes 7-16/3000000"))
    with pytest.raises(Unavailable, match="was answered"):
        await lake.read_blob(member.narinfo, BlobOffset(50), 10)


async def test_a_cancelled_stream_leaves_the_lake_usable(lake: BinaryCache, server: Server, member: Member) -> None:
    stall = Stall(after=1_500_000)
    server.on("/nar/*", Fault(stall=stall), times=1)
    async with trio.open_nursery() as readers:
        readers.start_soon(blob, lake, member.narinfo)
        await stall.reached.wait()
        readers.cancel_scope.cancel()
    assert lake.statistics().in_flight == 0
    assert await blob(lake, member.narinfo) == member.nar
