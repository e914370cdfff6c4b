"""The promises of the S3 lake against a real server: it refuses wrong signatures and answers ranges with 206."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio

from narfs.errors import Corrupt, NarfsError, NotFound, Unavailable, UsageError
from narfs.formats.cache_info import CacheInfo
from narfs.lake.upstreams import open_lakes
from narfs.offsets import BlobOffset
from tests.lake.fake_server import collect, stream_all
from tests.lake.s3_lake import QUICK, forget_the_machine, put, s3_transport, show_credentials
from tests.support.lakes import Lake, Recipe
from tests.support.s3 import ACCESS_KEY, REGION, SECRET_KEY
from tests.support.trees import File

if TYPE_CHECKING:
    from narfs.lake.s3 import S3Transport
    from tests.support.s3 import S3Server

BLOB = os.urandom(20_000_003)  # three parts, the last one short
_numbers = itertools.count()
REPOSITORY = Path(__file__).resolve().parents[2]

UPLOAD = """
import os, re, sys, trio
from narfs.lake.s3 import S3Transport
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

async def pieces(count):
    for number in range(count):
        yield bytes([number % 256]) * (1 << 20)

async def main():
    lake = S3Transport(StoreUrl.parse(sys.argv[1]), LakeSettings(), os.environ)
    await lake.exists("x")
    before = peak()
    await lake.put("x", pieces(256), 256 << 20)
    print(peak() - before)

trio.run(main)
"""


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_the_machine(monkeypatch)
    show_credentials(monkeypatch)


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name = f"lake-{next(_numbers)}"
    s3_server.bucket(name)
    return name


@pytest.fixture
def lake(s3_server: S3Server, bucket: str) -> S3Transport:
    return s3_transport(s3_server.url(bucket))


async def test_small_objects_come_back_and_absent_ones_are_absent(lake: S3Transport) -> None:
    await put(lake, "a.narinfo", b"hel", b"lo")
    assert await lake.get("a.narinfo", max_bytes=5) == b"hello"
    assert (await lake.exists("a.narinfo"), await lake.exists("b.narinfo")) == (True, False)
    with pytest.raises(NotFound, match=r"s3://lake-\d+/b\.narinfo: is not there"):
        await lake.get("b.narinfo", max_bytes=5)
    with pytest.raises(Corrupt, match="longer than 4 bytes"):
        await lake.get("a.narinfo", max_bytes=4)
    await put(lake, "a.narinfo", b"new")
    assert await lake.get("a.narinfo", max_bytes=5) == b"new"


async def test_an_empty_object_is_there(lake: S3Transport) -> None:
    await put(lake, "empty")
    assert await lake.exists("empty")
    assert await lake.get("empty", max_bytes=5) == b""
    assert await stream_all(lake, "empty") == b""


async def test_a_big_object_goes_in_parts_and_comes_in_pieces(lake: S3Transport, s3_server: S3Server) -> None:
    pieces = [BLOB[at : at + 1_000_000] for at in range(0, len(BLOB), 1_000_000)]
    await put(lake, "nar/x.nar", *pieces)
    async with lake.stream("nar/x.nar") as body:
        got = [piece async for piece in body]
    assert b"".join(got) == BLOB
    assert max(map(len, got)) <= 1024 * 1024
    assert len(got) < 100
    (file,) = s3_server.directory.glob("*/nar/x.nar")
    assert b"-3" in os.getxattr(file, "user.etag")  # so S3 marks what came in three parts
    statistics = lake.statistics()
    assert (statistics.sent_bytes_total, statistics.received_bytes_total) == (len(BLOB), len(BLOB))
    assert statistics.in_flight == 0


@pytest.mark.parametrize("prefix", ["", "/some/where"])
async def test_a_bucket_can_say_what_it_has(s3_server: S3Server, bucket: str, prefix: str) -> None:
    lake = s3_transport(s3_server.url(f"{bucket}{prefix}"))
    assert await lake.names(".narinfo") == []
    for name in ("b.narinfo", "a.narinfo", "a.ls", "nar/c.narinfo"):
        await put(lake, name, b"x")
    assert await lake.names(".narinfo") == ["a.narinfo", "b.narinfo"]


async def test_a_range_is_exact(lake: S3Transport) -> None:
    await put(lake, "x", BLOB[:5000])
    assert await lake.read_range("x", BlobOffset(1003), 2000) == BLOB[1003:3003]
    assert await lake.read_range("x", BlobOffset(4999), 1) == BLOB[4999:5000]
    assert await lake.read_range("x", BlobOffset(0), 0) == b""
    assert await lake.read_beginning("x", 2000) == BLOB[:2000]
    assert await lake.read_beginning("x", 5001) == BLOB[:5000]
    for start, length in ((4990, 11), (5000, 1), (9000, 5)):
        with pytest.raises(Corrupt, match="but it has 5000 bytes"):
            await lake.read_range("x", BlobOffset(start), length)
    with pytest.raises(NotFound):
        await lake.read_range("y", BlobOffset(0), 1)


async def test_a_stream_begins_where_it_is_told(lake: S3Transport) -> None:
    await put(lake, "x", BLOB[:3_000_000])
    assert await stream_all(lake, "x", 2_999_000) == BLOB[2_999_000:3_000_000]
    assert await stream_all(lake, "x", 3_000_000) == b""
    with pytest.raises(Corrupt, match="has 3000000 bytes"):
        await stream_all(lake, "x", 3_000_001)
    with pytest.raises(NotFound):
        await stream_all(lake, "y")


async def test_one_task_may_read_two_streams(lake: S3Transport) -> None:
    await put(lake, "x", BLOB[:3_000_000])
    async with lake.stream("x") as one, lake.stream("x", start=BlobOffset(1)) as other:
        assert lake.statistics().in_flight == 2
        assert (await collect(one))[1:] == await collect(other) == BLOB[1:3_000_000]


async def test_an_upload_takes_little_memory_whatever_its_size(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    script = tmp_path / "upload.py"
    script.write_text(UPLOAD)
    command = (sys.executable, str(script), s3_server.url(bucket))
    done = await trio.run_process(command, capture_stdout=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert int(done.stdout) < 40 * 1024, "KiB: three parts of 8 MiB, for an upload of 256 MiB"


@pytest.mark.parametrize("announced", [len(BLOB) + 1, len(BLOB) - 1])
async def test_an_upload_that_is_not_as_long_as_announced_is_nothing(lake: S3Transport, announced: int) -> None:
    await put(lake, "x", b"old")
    with pytest.raises(Corrupt, match="not as long as announced"):
        await put(lake, "x", BLOB, size=announced)
    assert await lake.get("x", max_bytes=5) == b"old"


async def test_keys_below_a_prefix_are_the_lake_s(s3_server: S3Server, bucket: str) -> None:
    deep = s3_transport(s3_server.url(bucket).replace("?", "/deep/la%20ke/?", 1))
    await put(deep, "nar/a%2Bb.nar", b"hello")
    assert (s3_server.directory / bucket / "deep" / "la ke" / "nar" / "a+b.nar").read_bytes() == b"hello"
    assert await deep.get("nar/a+b.nar", max_bytes=5) == b"hello"


async def test_a_public_bucket_is_read_by_anybody_and_written_by_nobody(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = s3_server.bucket("public", public=True)
    (directory / "nix-cache-info").write_bytes(CacheInfo(want_mass_query=True, priority=50).to_bytes())
    told = s3_transport(s3_server.url("public", public="1"))
    forget_the_machine(monkeypatch)
    found_out = s3_transport(s3_server.url("public"))
    for lake in (told, found_out):
        assert (await lake.get("nix-cache-info", max_bytes=1000)).startswith(b"StoreDir")
        assert not await lake.exists("x")
        with pytest.raises(Unavailable, match="no credentials were found"):
            await put(lake, "x", b"x")


class Wrong(NamedTuple):
    said: str
    access_key: str = ACCESS_KEY
    secret: str = SECRET_KEY
    region: str = REGION


@pytest.mark.parametrize("work", ["get", "read_range", "stream", "put", "exists"])
@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("secret key of the environment does not fit its access key", secret="no"),  # noqa: S106 - a wrong one
        Wrong("no such access key as that of the environment", access_key="stranger"),
        Wrong(r"give \?region=eu-narfs-1", region="us-east-1"),
        Wrong("not public, and no credentials were found", access_key=""),
    ],
)
async def test_what_the_server_refuses_is_one_line(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, work: str, wrong: Wrong
) -> None:
    show_credentials(monkeypatch, wrong.access_key, wrong.secret)
    lake = s3_transport(s3_server.url(bucket, region=wrong.region))
    with pytest.raises(Unavailable, match=wrong.said) as refused:
        await _do(lake, work)
    assert "\n" not in str(refused.value)
    assert type(refused.value) is Unavailable


@pytest.mark.parametrize("work", ["get", "read_range", "stream", "put", "exists"])
async def test_a_missing_bucket_is_not_a_missing_object(s3_server: S3Server, work: str) -> None:
    lake = s3_transport(s3_server.url("nowhere"))
    with pytest.raises(Unavailable, match=r"no such bucket: check its name and the endpoint \(NoSuchBucket\)"):
        await _do(lake, work)


async def _do(lake: S3Transport, work: str) -> None:
    match work:
        case "get":
            await lake.get("x", max_bytes=5)
        case "read_range":
            await lake.read_range("x", BlobOffset(0), 5)
        case "stream":
            await stream_all(lake, "x")
        case "put":
            await put(lake, "x", b"hello")
        case "exists":
            await lake.exists("x")


async def test_credentials_that_cannot_be_found_stop_the_first_request(s3_server: S3Server, bucket: str) -> None:
    lake = s3_transport(s3_server.url(bucket, profile="work"))
    with pytest.raises(UsageError, match="profile 'work' is neither in"):
        await lake.get("x", max_bytes=5)


async def test_credentials_that_come_after_the_first_request_count(
    lake: S3Transport, s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(lake, "nix-cache-info", CacheInfo().to_bytes())
    forget_the_machine(monkeypatch)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    early = s3_transport(s3_server.url(bucket))
    with pytest.raises(Unavailable):
        await early.get("nix-cache-info", max_bytes=1000)
    file.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    assert await early.get("nix-cache-info", max_bytes=1000) == CacheInfo().to_bytes()


async def test_a_binary_cache_goes_round(s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
    model = Lake(tmp_path)
    member = model.add("big", File(BLOB), Recipe(compression="none", listing=True))
    narinfo = member.narinfo
    async with open_lakes([s3_server.url(bucket)], QUICK) as upstreams:
        (lake,) = upstreams.lakes
        assert not await lake.has_info()
        await lake.put_info(CacheInfo(want_mass_query=True, priority=31))
        await put(lake._transport, narinfo.url, member.nar)
        await lake.put_parts(lake.parts(narinfo, b"{}", None, None))
        await lake.put_narinfo(narinfo)
    async with open_lakes([s3_server.url(bucket), "/nonexistent?optional=1"], QUICK) as upstreams:
        lake, found = await upstreams.narinfo(narinfo.path.hash_part, lambda *_: True)
        assert (found, lake.priority) == (narinfo, 31)
        assert await lake.has_info()
        assert (await lake.has_narinfo(narinfo.path.hash_part), await lake.has_narinfo("0" * 32)) == (True, False)
        assert await lake.has_blob(narinfo.url)
        assert await lake.listing(narinfo.path.hash_part) == b"{}"
        assert await lake.read_blob(found, BlobOffset(9_000_000), 300_000) == member.nar[9_000_000:9_300_000]
        async with lake.open_blob(found) as body:
            assert await collect(body) == member.nar
        with pytest.raises(NarfsError, match="0000"):
            await upstreams.narinfo("0" * 32, lambda *_: True)
