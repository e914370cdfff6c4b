"""What a network and a server can do to an S3 lake: the lying server plays a public bucket, over real sockets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trio

from narfs.errors import Corrupt, NotFound, TooSlow, Unavailable
from narfs.lake.settings import LakeSettings
from narfs.offsets import BlobOffset
from tests.lake.fake_server import collect, stream_all
from tests.lake.s3_lake import QUICK, forget_the_machine, put, s3_transport, show_credentials
from tests.support.faults import Fault, Stall
from tests.support.packing import pack
from tests.support.relay import Relay, relay
from tests.support.server import Server, serve

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.lake.s3 import S3Transport
    from tests.support.s3 import S3Server

BLOB = os.urandom(3_000_000)


def refusal(code: str, *, status: int = 403, more: str = "") -> Fault:
    return Fault(status=status, body=f"<Error><Code>{code}</Code><Message>it says</Message>{more}</Error>".encode())


@dataclass(frozen=True, slots=True)
class Bucket:
    server: Server
    directory: Path

    def lake(self, settings: LakeSettings = QUICK) -> S3Transport:
        return s3_transport(f"s3://lake?endpoint={self.server.url}&region=eu-1", settings)


@pytest.fixture
async def bucket(nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    forget_the_machine(monkeypatch)
    show_credentials(monkeypatch)
    directory = tmp_path / "lake"
    directory.mkdir()
    (directory / "x").write_bytes(BLOB)
    (directory / "nix-cache-info").write_bytes(b"StoreDir: /nix/store\n")
    return Bucket(await nursery.start(serve, tmp_path), directory)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_asked_again(bucket: Bucket, status: int) -> None:
    bucket.server.on("*", Fault(status=status), times=1)
    assert await bucket.lake().read_range("x", BlobOffset(100), 50) == BLOB[100:150]
    assert [asked.range for asked in bucket.server.log] == ["bytes=100-149"] * 2
    assert bucket.server.log[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=narfs-test/")


async def test_a_server_that_stays_in_trouble_is_unavailable(bucket: Bucket) -> None:
    bucket.server.on("*", refusal("SlowDown", status=503))
    with pytest.raises(Unavailable, match="answered 503 SlowDown: it says"):
        await bucket.lake().get("x", max_bytes=100)
    assert len(bucket.server.log) == QUICK.attempts


async def test_nobody_at_the_endpoint_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"s3://lake/x: Connection refused"):
        await s3_transport("s3://lake?endpoint=http://127.0.0.1:1&public=1").get("x", max_bytes=100)


@pytest.mark.parametrize("fault", [Fault(cut_after=1_500_000), Fault(reset_after=1_500_000)])
async def test_a_torn_stream_is_whole(bucket: Bucket, fault: Fault) -> None:
    bucket.server.on("*", fault, times=1)
    assert await stream_all(bucket.lake(), "x", 1000) == BLOB[1000:]
    assert len(bucket.server.log) == 2


async def test_a_stream_survives_more_cuts_than_attempts_as_long_as_it_moves(bucket: Bucket) -> None:
    (bucket.directory / "long").write_bytes(BLOB * 3)
    bucket.server.on("*", Fault(cut_after=1_100_000))
    lake = bucket.lake(LakeSettings(attempts=2))
    assert await stream_all(lake, "long") == BLOB * 3
    assert lake.statistics().resumes_total > 1


async def test_a_stream_that_does_not_move_is_given_up(bucket: Bucket) -> None:
    bucket.server.on("*", Fault(cut_after=10))
    with pytest.raises(Unavailable):
        await stream_all(bucket.lake(), "x")
    assert len(bucket.server.log) == QUICK.attempts


@pytest.mark.parametrize("attempts", [1, 3])
async def test_two_versions_are_never_joined(bucket: Bucket, attempts: int) -> None:
    bucket.server.on("*", Fault(cut_after=1_500_000), times=1)
    lake = bucket.lake(LakeSettings(attempts=attempts))
    async with lake.stream("x") as pieces:
        await anext(pieces)
        (bucket.directory / "new").write_bytes(bytes(len(BLOB)))
        (bucket.directory / "new").rename(bucket.directory / "x")
        with pytest.raises(Unavailable):
            await collect(pieces)


@pytest.mark.parametrize("attempts", [1, 3])
async def test_an_object_that_vanishes_while_it_is_read_is_not_absent(bucket: Bucket, attempts: int) -> None:
    bucket.server.on("*", Fault(cut_after=1_500_000), times=1)
    async with bucket.lake(LakeSettings(attempts=attempts)).stream("x") as pieces:
        await anext(pieces)
        (bucket.directory / "x").unlink()
        with pytest.raises(Unavailable):
            await collect(pieces)


async def test_a_stalled_stream_is_taken_up_again(bucket: Bucket) -> None:
    bucket.server.on("*", Fault(stall=Stall(after=1_500_000)), times=1)
    assert await stream_all(bucket.lake(), "x") == BLOB


async def test_a_lake_that_only_stalls_is_too_slow(bucket: Bucket) -> None:
    bucket.server.on("*", Fault(stall=Stall()))
    lake = bucket.lake(LakeSettings(attempts=2, stall_deadline_s=0.2))
    with pytest.raises(TooSlow, match="nothing came within the deadline"):
        await lake.read_range("x", BlobOffset(0), 100)
    with pytest.raises(TooSlow):
        await stream_all(lake, "x")


async def test_a_stream_that_trickles_is_too_slow(bucket: Bucket) -> None:
    bucket.server.on("*", Fault(drip=(1, 0.05)))
    with pytest.raises(TooSlow, match="less than 256 bytes a second came"):
        await stream_all(bucket.lake(LakeSettings(stall_deadline_s=1)), "x")


@pytest.mark.parametrize("status", [500, 503])
async def test_an_upload_that_the_server_cannot_take_now_is_sent_again(bucket: Bucket, status: int) -> None:
    bucket.server.on("*", Fault(status=status), times=1)
    bucket.server.on("*", Fault(headers={"ETag": '"new"'}))
    await put(bucket.lake(), "y", BLOB)
    assert (bucket.directory / "y").read_bytes() == BLOB
    assert [(asked.method, asked.status) for asked in bucket.server.log] == [("PUT", status), ("PUT", 201)]


@pytest.fixture
async def far(nursery: trio.Nursery, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Relay:
    """A relay in front of a real S3 server."""
    forget_the_machine(monkeypatch)
    show_credentials(monkeypatch)
    made: Relay = await nursery.start(relay, urlsplit(s3_server.endpoint).port)
    return made


@pytest.mark.parametrize("size", [3_000_000, 20_000_000], ids=["in one", "in parts"])
async def test_an_upload_whose_connection_breaks_is_sent_again(far: Relay, s3_server: S3Server, size: int) -> None:
    directory = s3_server.bucket(f"torn-{size}")
    data = os.urandom(size)
    far.cuts = [1_000_000, 2_500_000]
    await put(s3_transport(s3_server.url(directory.name).replace(s3_server.endpoint, far.url)), "y", data)
    assert far.cuts == []
    assert (directory / "y").read_bytes() == data


async def test_an_upload_may_take_longer_than_a_server_may_be_silent(far: Relay, s3_server: S3Server) -> None:
    directory = s3_server.bucket("slow")
    far.pause_s = 0.03
    url = s3_server.url(directory.name).replace(s3_server.endpoint, far.url)
    await put(s3_transport(url, LakeSettings(attempts=1, stall_deadline_s=1)), "y", BLOB)
    assert (directory / "y").read_bytes() == BLOB


async def test_a_small_object_has_a_deadline_in_all(bucket: Bucket) -> None:
    bucket.server.on("*", Fault(drip=(1, 0.05)))
    with pytest.raises(TooSlow, match=r"not complete after 0\.3 s"):
        await bucket.lake(LakeSettings(small_object_deadline_s=0.3)).read_range("x", BlobOffset(0), 100)


async def test_a_cancelled_stream_leaves_the_lake_usable(bucket: Bucket) -> None:
    stall = Stall(after=1_500_000)
    bucket.server.on("*", Fault(stall=stall), times=1)
    lake = bucket.lake()
    async with trio.open_nursery() as readers:
        readers.start_soon(stream_all, lake, "x")
        await stall.reached.wait()
        readers.cancel_scope.cancel()
    assert lake.statistics().in_flight == 0
    assert await stream_all(lake, "x") == BLOB


@pytest.mark.parametrize("fault", [Fault(ignore_range=True), Fault(content_range="bytes 7-16/3000000")])
async def test_bytes_that_were_not_asked_for_are_not_used(bucket: Bucket, fault: Fault) -> None:
    bucket.server.on("*", fault)
    for start in (50, 1_000_000):
        with pytest.raises(Unavailable):
            await bucket.lake().read_range("x", BlobOffset(start), 10)
        with pytest.raises(Unavailable):
            await stream_all(bucket.lake(), "x", start)


async def test_small_objects_are_decoded_and_blobs_refused(bucket: Bucket) -> None:
    (bucket.directory / "x.ls").write_bytes(pack(b"{}" * 50, "br"))
    bucket.server.on("/lake/x.ls", Fault(headers={"Content-Encoding": "br"}))
    bucket.server.on("/lake/x", Fault(headers={"Content-Encoding": "br"}))
    assert await bucket.lake().get("x.ls", max_bytes=100) == b"{}" * 50
    with pytest.raises(Corrupt, match="longer than 99 bytes"):
        await bucket.lake().get("x.ls", max_bytes=99)
    with pytest.raises(Unavailable, match="Content-Encoding 'br'"):
        await stream_all(bucket.lake(), "x")


async def test_a_403_is_absent_only_where_the_lake_could_be_read(bucket: Bucket) -> None:
    bucket.server.on("/lake/y", refusal("AccessDenied"))
    lake = bucket.lake()
    with pytest.raises(Unavailable, match=r"the environment may not do that here.*\(AccessDenied\)"):
        await lake.get("y", max_bytes=100)
    await lake.get("nix-cache-info", max_bytes=100)
    assert not await lake.exists("y")
    with pytest.raises(NotFound):
        await lake.get("y", max_bytes=100)
    with pytest.raises(Unavailable, match="AccessDenied"):
        await put(lake, "y", b"hello")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (refusal("ExpiredToken", status=400), "credentials of the environment have expired: get new ones"),
        (refusal("ExpiredToken"), "credentials of the environment have expired: get new ones"),
        (refusal("InvalidToken", status=400), "session token of the environment is not valid"),
        (refusal("InvalidAccessKeyId"), "no such access key as that of the environment"),
        (refusal("RequestTimeTooSkewed"), "clock of this machine is wrong"),
        (refusal("NoSuchBucket", status=404), "no such bucket"),
        (refusal("PermanentRedirect", status=301, more="<Region>eu-2</Region>"), "in another region"),
        (refusal("AuthorizationHeaderMalformed", status=400, more="<Region>eu-2</Region>"), r"give \?region=eu-2"),
        (refusal("NeverHeardOf", status=402), "answered 402 NeverHeardOf: it says"),
        (Fault(status=400, body=b"<html>a portal"), "answered 400 <html>a portal"),
    ],
)
async def test_what_is_wrong_with_the_asker_is_one_line_and_never_an_absence(
    bucket: Bucket, fault: Fault, said: str
) -> None:
    lake = bucket.lake()
    await lake.get("nix-cache-info", max_bytes=100)
    bucket.server.on("*", fault)
    with pytest.raises(Unavailable, match=said) as refused:
        await lake.get("x", max_bytes=100)
    assert "\n" not in str(refused.value)
    with pytest.raises(Unavailable, match=said):
        await lake.exists("x")
