"""A profile: read as it was written, and a stranger's never makes more than a refusal."""

from __future__ import annotations

import base64
import hashlib
import struct
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from narfs.errors import Corrupt, FormatError, Untrusted, UsageError
from narfs.formats.profile import (
    MAX_BODY_BYTES,
    MAX_PATHS_BYTES,
    MAX_READS,
    Place,
    Profile,
    Read,
    bounded,
    checked_profile_name,
)
from narfs.formats.profile_object import MAX_PROFILE_BYTES, object_name, read_profile, write_profile
from narfs.formats.signature import PublicKeys, SecretKey
from tests.formats.test_lake_format_doc import nix32

GOLDEN = Path(__file__).parent.parent / "golden" / "profile"
KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))

SSL = Place("openssl-3.0.14", 0, b"lib/libssl.so.3")
SCRIPT = Place("hook", 1, b"")
PROFILE = Profile(
    (Read(0, SSL, 0, 3), Read(7, SCRIPT, 0, 0), Read(7, SSL, 9, 9, 2), Read(2**32 - 1, SSL, 2**32 - 1, 2**32 - 1, 255)),
    failed_runs=1,
)
OBJECT = write_profile("hello", PROFILE, [KEY])

names = st.text("abcXYZ019+-._?=", min_size=1, max_size=12)
files = st.lists(
    st.binary(min_size=1, max_size=6).filter(lambda name: not {b"/"[0], 0} & set(name) and name not in {b".", b".."}),
    max_size=4,
).map(b"/".join)
places = st.builds(Place, names, st.integers(0, 255), files)
numbers = st.integers(0, 2**32 - 1)
blocks = st.tuples(numbers, numbers).map(sorted)
reads = st.builds(
    lambda at_ms, place, blocks, unseen: Read(at_ms, place, blocks[0], blocks[1], unseen),
    numbers,
    places,
    blocks,
    st.integers(0, 255),
)
profiles = st.builds(Profile, st.lists(reads, max_size=20).map(tuple), numbers)


@given(profiles)
def test_what_is_written_reads_as_the_same_profile(profile: Profile) -> None:
    assert Profile.parse(profile.to_bytes()) == profile
    assert read_profile(write_profile("x", profile, [KEY]), "x", KEYS) == ("x", profile)


def test_a_profile_without_a_signature_is_read_where_none_is_asked_for() -> None:
    data = write_profile("hello", PROFILE)
    assert read_profile(data) == read_profile(OBJECT) == ("hello", PROFILE)
    with pytest.raises(Untrusted, match="no trusted index key"):
        read_profile(data, "hello", KEYS)


def test_another_name_another_key_and_another_domain_are_refused() -> None:
    with pytest.raises(Corrupt, match="'hello' and not bye"):
        read_profile(OBJECT, "bye", KEYS)
    for keys in (PublicKeys(), PublicKeys((SecretKey.generate("index.test-1").public,))):
        with pytest.raises(Untrusted, match=r"index\.test-1"):
            read_profile(OBJECT, "hello", keys)
    with pytest.raises((Corrupt, FormatError)):
        read_profile(OBJECT.replace(b"narfs-profile-1", b"narfs-indexxx-1"), "hello", KEYS)


def test_every_cut_and_every_flipped_byte_is_refused() -> None:
    for length in range(len(OBJECT)):
        with pytest.raises(FormatError):
            read_profile(OBJECT[:length], "hello", KEYS)
    with pytest.raises(FormatError):
        read_profile(OBJECT + b"\0", "hello", KEYS)
    for at in range(len(OBJECT)):
        with pytest.raises((FormatError, Corrupt, Untrusted)):
            read_profile(OBJECT[:at] + bytes([OBJECT[at] ^ 1]) + OBJECT[at + 1 :], "hello", KEYS)


def made(body: bytes, name: str = "hello") -> bytes:
    """Make an object of any body, as whoever writes one for himself can."""
    text = f"narfs-profile-1;{name};sha256:{nix32(hashlib.sha256(body).digest())}\n".encode()
    return struct.pack("<8sIII", b"NARFPROF", 1, len(text), len(body)) + text + body


def packed(body: bytes) -> bytes:
    return made(zstandard.ZstdCompressor().compress(body))


@given(st.data())
def test_nothing_but_refusals_come_of_a_body_that_makes_no_sense(data: st.DataObject) -> None:
    body = bytearray(PROFILE.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from([0, 1, 2, 46, 47, 127, 255]))
    with suppress(FormatError):
        found = read_profile(packed(bytes(body)))[1]
        assert Profile.parse(found.to_bytes()) == found


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    for body in (data, struct.pack("<IIIII", 0, 1, 1, 1, len(data)) + data):
        with suppress(FormatError):
            Profile.parse(body)
    with pytest.raises((FormatError, Corrupt)):
        read_profile(made(data))


@pytest.mark.parametrize(
    ("package", "file", "first", "last"),
    [
        ("a/b", b"x", 0, 0),
        ("", b"x", 0, 0),
        ("a", b"../x", 0, 0),
        ("a", b"/etc/passwd", 0, 0),
        ("a", b"x//y", 0, 0),
        ("a", b"x\0y", 0, 0),
        ("a", b"/".join([b"d"] * 64), 0, 0),
        ("a", b"d" * 4097, 0, 0),
        ("a", b"x", 2, 1),
    ],
)
def test_what_no_nar_can_have_is_refused(package: str, file: bytes, first: int, last: int) -> None:
    with pytest.raises(FormatError):
        Profile.parse(Profile((Read(0, Place(package, 0, file), first, last),)).to_bytes())


def test_a_bomb_is_refused_before_it_is_decompressed() -> None:
    with pytest.raises(FormatError, match="at most"):
        read_profile(packed(bytes(MAX_BODY_BYTES + 1)))
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    unknown = stream.compress(bytes(MAX_BODY_BYTES * 4)) + stream.flush()
    with pytest.raises(FormatError, match="at most"):
        read_profile(made(unknown))
    for fields in ((0, 2**32 - 1, 0, 0, 0), (0, 0, 2**32 - 1, 0, 0), (0, 0, 0, 2**32 - 1, 0), (0, 0, 0, 0, 2**32 - 1)):
        with pytest.raises(FormatError, match="legal size"):
            Profile.parse(struct.pack("<IIIII", *fields))


def test_as_many_reads_are_kept_as_a_profile_may_have() -> None:
    many = [Read(number, Place("a", 0, b"%d" % number), 0, 0) for number in range(MAX_READS + 1)]
    assert bounded(many) == tuple(many[:MAX_READS])
    long = [Read(0, Place("a" * 211, 0, b"%04d" % number + b"x" * 250), 0, 0) for number in range(MAX_READS)]
    profile = Profile(bounded(long))
    assert len(profile.reads) == MAX_PATHS_BYTES // 254
    assert read_profile(write_profile("x", profile))[1] == profile
    with pytest.raises(ValueError, match="more than may be"):
        Profile(tuple(long)).to_bytes()
    odd = [Read(0, Place("a", 256, b"x"), 0, 0), Read(0, Place("a", 0, b"x" * 5000), 0, 0), Read(2**40, SSL, 0, 0)]
    assert bounded(odd) == (Read(2**32 - 1, SSL, 0, 0),)


def test_the_largest_profile_fits_its_bounds() -> None:
    reads = [Read(0, Place(f"{number:05}" + "x" * 206, 0, b"f" * 128), 0, 0) for number in range(MAX_READS)]
    profile = Profile(bounded(reads))
    assert len(profile.reads) == MAX_READS
    body = profile.to_bytes()
    assert len(body) < MAX_BODY_BYTES < MAX_PROFILE_BYTES
    assert Profile.parse(body) == profile


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "a;b", "a\nb", "x" * 129, "ä"])
def test_a_name_that_is_no_file_and_no_word_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked_profile_name(name)


def test_a_name_makes_a_word_for_the_lake() -> None:
    name = object_name("gtk+-3?x=1.drv")
    assert name.removesuffix(".narfs-profile").isalnum()
    assert name != object_name("gtk+-3?x=2.drv")


def test_a_reader_made_from_the_document_alone_reads_the_golden_profile() -> None:
    """docs/lake-format.md is enough: nothing of narfs is used here."""
    data = (GOLDEN / "golden.narfs-profile").read_bytes()
    magic, version, text_bytes, body_bytes = struct.unpack_from("<8sIII", data)
    assert (magic, version, len(data)) == (b"NARFPROF", 1, 20 + text_bytes + body_bytes)
    statement, signature = data[20 : 20 + text_bytes].decode().splitlines()
    stored = data[20 + text_bytes :]
    assert statement == f"narfs-profile-1;golden.drv;sha256:{nix32(hashlib.sha256(stored).digest())}"
    key_name, _, key = (GOLDEN / "index.pub").read_text().strip().partition(":")
    assert signature.startswith(f"{key_name}:")
    VerifyKey(base64.b64decode(key)).verify(statement.encode(), base64.b64decode(signature.partition(":")[2]))
    body = zstandard.ZstdDecompressor().decompress(stored)
    failed_runs, packages, files, reads, paths_bytes = struct.unpack_from("<IIIII", body)
    at = 20

    def column(code: str, rows: int) -> tuple[int, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{rows}{code}", body, at)
        at += struct.calcsize(f"<{rows}{code}")
        return values

    def texts(lengths: tuple[int, ...]) -> list[bytes]:
        return [bytes(column("B", length)) for length in lengths]

    name_lengths, nths = column("B", packages), column("B", packages)
    names = texts(name_lengths)
    owners, path_lengths = column("I", files), column("H", files)
    assert sum(path_lengths) == paths_bytes
    paths = texts(path_lengths)
    rows = list(zip(*(column("I", reads) for _ in range(4)), column("B", reads), strict=True))
    assert at == len(body)
    assert failed_runs == 1
    found = [
        (at_ms, names[owners[file]], nths[owners[file]], paths[file], first, last, unseen)
        for at_ms, file, first, last, unseen in rows
    ]
    assert found == [
        (0, b"openssl-3.0.14", 0, b"lib/libssl.so.3", 0, 3, 0),
        (7, b"hook", 1, b"", 0, 0, 0),
        (7, b"openssl-3.0.14", 0, b"lib/libssl.so.3", 9, 9, 2),
    ]
    word = nix32(hashlib.sha256(b"narfs-profile-1;golden.drv").digest())
    assert object_name("golden.drv") == f"{word}.narfs-profile"
    assert read_profile(data, "golden.drv")[1] == Profile(PROFILE.reads[:3], failed_runs=1)
