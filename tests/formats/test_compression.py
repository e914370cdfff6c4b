"""Decoders: what Nix accepts is accepted, everything else is a FormatError, and nothing grows without bound."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import subprocess
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING

import brotli  # type: ignore[import-untyped]  # ships no annotations
import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.errors import FormatError, UsageError
from narfs.formats.compression import KNOWN, PIECE_BYTES, decoder, encoder
from narfs.formats.frames import FRAME_MAX_BYTES, FrameRecorder, FrameTable, decode_frame, xz_frames
from narfs.formats.quote import quote
from narfs.offsets import NarOffset, NarSpan
from tests.support.packing import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_RANDOM = random.Random(2)  # noqa: S311 - reproducible test data
NAR = b"".join(_RANDOM.randbytes(_RANDOM.randrange(200)) + bytes(_RANDOM.randrange(2000)) for _ in range(300))
SMALL = NAR[:3000]

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "br": brotli.compress,
    "lz4": lambda nar: lz4.frame.compress(nar, content_checksum=True),
}
PACKED = [name for name in KNOWN if name != "none"]
CHAINED = [name for name in PACKED if name != "br"]


def decode(compression: str, blobs: bytes | Iterable[bytes], nar_size: int) -> bytes:
    made = decoder(compression, nar_size=nar_size)
    pieces = [piece for blob in ([blobs] if isinstance(blobs, bytes) else blobs) for piece in made.feed(blob)]
    made.finish()
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


def learn(compression: str, blob: bytes, nar_size: int) -> FrameTable | None:
    made = decoder(compression, nar_size=nar_size)
    for start in range(0, len(blob), 5000):
        for _ in made.feed(blob[start : start + 5000]):
            pass
    made.finish()
    return made.frames()


def zstd_unsized(nar: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(nar) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) + compressor.flush()


def skippable(contents: bytes, nibble: int = 14) -> bytes:
    return struct.pack("<II", 0x184D2A50 + nibble, len(contents)) + contents


def in_parts(nar: bytes, length: int) -> list[bytes]:
    return [nar[start : start + length] for start in range(0, len(nar), length)]


@pytest.mark.parametrize("compression", KNOWN)
def test_a_nar_comes_back_however_its_blob_is_cut(compression: str) -> None:
    blob = COMPRESS[compression](NAR)
    assert decode(compression, blob, len(NAR)) == NAR
    assert decode(compression, in_parts(blob, 777), len(NAR)) == NAR
    small = COMPRESS[compression](SMALL)
    assert decode(compression, in_parts(small, 1), len(SMALL)) == SMALL


@pytest.mark.parametrize("compression", PACKED)
def test_a_large_nar_comes_in_pieces_of_at_most_a_mebibyte(compression: str) -> None:
    nar = bytes(5 * PIECE_BYTES + 5) + SMALL
    assert decode(compression, COMPRESS[compression](nar), len(nar)) == nar


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("missing", [1, 4, 9])
def test_a_truncated_blob_is_refused(compression: str, missing: int) -> None:
    with pytest.raises(FormatError):
        decode(compression, COMPRESS[compression](SMALL)[:-missing], len(SMALL))


@pytest.mark.parametrize("compression", PACKED)
def test_an_empty_blob_is_refused(compression: str) -> None:
    with pytest.raises(FormatError):
        decode(compression, b"", len(SMALL))


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("junk", [b"x", b"junk behind the end", bytes(1), bytes(30)])
def test_junk_behind_the_end_is_refused(compression: str, junk: bytes) -> None:
    blob = COMPRESS[compression](SMALL)
    for blobs in ([blob + junk], [blob, junk], in_parts(blob + junk, 1)):
        with pytest.raises(FormatError):
            decode(compression, blobs, len(SMALL))


@pytest.mark.parametrize("compression", KNOWN)
def test_a_nar_of_another_size_than_promised_is_refused(compression: str) -> None:
    blob = COMPRESS[compression](SMALL)
    with pytest.raises(FormatError, match=r"2999|bomb"):
        decode(compression, blob, len(SMALL) - 1)
    with pytest.raises(FormatError, match="expected 3001 bytes of NAR, found 3000"):
        decode(compression, blob, len(SMALL) + 1)


@pytest.mark.parametrize("compression", PACKED)
def test_a_decompression_bomb_is_stopped_at_the_size_of_the_nar(compression: str) -> None:
    nar_size = 3 * PIECE_BYTES
    blob = COMPRESS[compression](bytes(30 * PIECE_BYTES))
    made, passed = decoder(compression, nar_size=nar_size), 0
    tracemalloc.start()
    with pytest.raises(FormatError, match="decompression bomb"):  # noqa: PT012 - what came before it counts
        for piece in made.feed(blob):
            passed += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert passed <= nar_size
    assert peak < 12 * PIECE_BYTES  # xz: a dictionary of 8 MiB


@pytest.mark.parametrize("compression", PACKED)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_damage_never_raises_anything_but_a_format_error(compression: str, data: st.DataObject) -> None:
    blob = bytearray(COMPRESS[compression](SMALL))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FormatError):
        decode(compression, [bytes(blob)], len(SMALL))


@pytest.mark.parametrize("compression", [*PACKED, "none"])
@given(blob=st.binary(max_size=200))
@settings(max_examples=25, deadline=None)
def test_noise_never_raises_anything_but_a_format_error(compression: str, blob: bytes) -> None:
    head = COMPRESS[compression](SMALL)[:10]
    for noise in (blob, head + blob):
        with pytest.raises(FormatError):
            decode(compression, noise, len(SMALL))


@pytest.mark.parametrize("compression", CHAINED)
@pytest.mark.parametrize("cut", [1, 50_000, 10**9])
def test_streams_may_follow_each_other(compression: str, cut: int) -> None:
    nar = NAR[:20_000]
    blob = b"".join(COMPRESS[compression](part) for part in [*in_parts(nar, 3333), b""])
    assert decode(compression, in_parts(blob, cut), len(nar)) == nar


def test_xz_streams_may_be_padded_to_four_bytes() -> None:
    blob = lzma.compress(SMALL)
    twice = blob + bytes(8) + blob + bytes(4)
    assert decode("xz", twice, 2 * len(SMALL)) == 2 * SMALL
    assert decode("xz", in_parts(twice, 1), 2 * len(SMALL)) == 2 * SMALL
    for wrong in (blob + bytes(6) + blob, bytes(4) + blob + blob):
        with pytest.raises(FormatError):
            decode("xz", wrong, 2 * len(SMALL))


def test_lzma_alone_is_not_xz() -> None:
    with pytest.raises(FormatError):
        decode("xz", lzma.compress(SMALL, lzma.FORMAT_ALONE), len(SMALL))


@pytest.mark.parametrize("cut", [1, 1000, 10**9])
def test_skippable_zstd_frames_may_stand_anywhere(cut: int) -> None:
    one, two = COMPRESS["zstd"](SMALL), zstd_unsized(SMALL)
    blob = skippable(b"") + skippable(b"x" * 300, 0) + one + skippable(b"y" * 5) + two + one + skippable(b"z" * 70)
    assert decode("zstd", in_parts(blob, cut), 3 * len(SMALL)) == 3 * SMALL


def test_a_zstd_window_of_128_mib_is_accepted_and_a_larger_one_refused() -> None:
    def compress(window_log: int) -> bytes:
        parameters = zstandard.ZstdCompressionParameters(window_log=window_log, write_content_size=False)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return compressor.compress(SMALL) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) + compressor.flush()

    assert decode("zstd", compress(27), len(SMALL)) == SMALL
    with pytest.raises(FormatError, match="window of at most 134217728 bytes, found 268435456"):
        decode("zstd", compress(28), len(SMALL))


@pytest.mark.parametrize(
    ("frame", "because"),
    [
        (b"\x28\xb5\x2f\xfd\x08\0", "header"),  # a reserved bit
        (b"\x28\xb5\x2f\xfd\x20\x05" + struct.pack("<I", 1 | 3 << 1)[:3], "reserved type 3"),
        (b"\x28\xb5\x2f\xfd\x21\x01\x05" + struct.pack("<I", 1 | 1 << 3)[:3] + b"x", "Dictionary|dictionary"),
        (b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8, "window"),  # claims 2^64 - 1 bytes in one segment
        (b"\x28\xb5\x2f\xfd\xc0\x00" + b"\xfe" * 8 + b"\x01\0\0", "bomb"),  # claims as much, in a small window
        (b"\x28\xb5\x2f\xfd\x20\x05" + struct.pack("<I", 1 | 1 << 1 | 2_000_000 << 3)[:3] + b"x", "sound data"),
    ],
)
def test_a_zstd_frame_that_asks_for_the_impossible_is_refused(frame: bytes, because: str) -> None:
    with pytest.raises(FormatError, match=because):
        decode("zstd", frame, len(SMALL))


@pytest.mark.parametrize("compression", ["lzip", "lzma", "compress", "", "no\nsense" * 100])
def test_an_unknown_compression_is_refused_by_name(compression: str) -> None:
    with pytest.raises(FormatError) as caught:
        decoder(compression, nar_size=1)
    assert quote(compression) in str(caught.value)
    assert "one of none, xz, zstd, gzip, bzip2, br, lz4" in str(caught.value)
    with pytest.raises(UsageError, match="choose none or zstd"):
        encoder(compression)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_what_the_encoder_writes_the_decoder_reads(compression: str) -> None:
    made = encoder(compression, level=3)
    blob = b"".join(made.feed(part) for part in in_parts(NAR, 10_000)) + made.finish()
    assert decode(compression, blob, len(NAR)) == NAR
    if compression == "zstd":
        assert zstandard.get_frame_parameters(blob).has_checksum
        assert learn("zstd", blob, len(NAR)) is None


# frames


def framed(compression: str, nar: bytes, frame_bytes: int) -> bytes:
    if compression == "xz":
        program = ["xz", "--threads=2", f"--block-size={frame_bytes}", "-1"]
        return subprocess.run(program, input=nar, capture_output=True, check=True).stdout
    compress = zstd_unsized if compression == "zstd unsized" else COMPRESS["zstd"]
    return b"".join(map(compress, in_parts(nar, frame_bytes)))


def assert_every_frame_decodes(table: FrameTable, blob: bytes, nar: bytes) -> None:
    frames = table.covering(NarSpan(NarOffset(0), NarOffset(len(nar))))
    at = 0
    for frame in frames:
        assert frame.nar == at
        at += frame.nar_length
        data = blob[frame.blob : frame.blob + frame.blob_length]
        assert decode_frame(table.compression, data, frame.nar_length) == nar[frame.nar : at]
    assert at == len(nar) == table.nar_size


@pytest.mark.parametrize("kind", ["xz", "zstd", "zstd unsized"])
@pytest.mark.parametrize("frame_bytes", [4096, 65536, 250_001])
def test_frames_are_learned_in_the_first_pass_and_decode_by_themselves(kind: str, frame_bytes: int) -> None:
    blob = framed(kind, NAR, frame_bytes)
    table = learn(kind.split(maxsplit=1)[0], blob, len(NAR))
    assert table is not None
    assert table.blob_size == len(blob)
    assert len(table.covering(NarSpan(NarOffset(0), NarOffset(len(NAR))))) == -(-len(NAR) // frame_bytes)
    assert_every_frame_decodes(table, blob, NAR)


@given(
    parts=st.lists(st.tuples(st.sampled_from(["sized", "unsized", "skippable"]), st.integers(0, 3000)), max_size=12),
    cut=st.integers(1, 4000),
)
@settings(max_examples=40, deadline=None)
def test_any_chain_of_zstd_frames_gives_its_table(parts: list[tuple[str, int]], cut: int) -> None:
    blob, nar, filled = b"", b"", 0
    for kind, length in parts:
        contents = NAR[length : 2 * length]
        if kind == "skippable":
            blob += skippable(contents)
        else:
            blob += COMPRESS["zstd"](contents) if kind == "sized" else zstd_unsized(contents)
            nar += contents
            filled += length > 0
    made = decoder("zstd", nar_size=len(nar))
    assert b"".join(piece for part in in_parts(blob, cut) for piece in made.feed(part)) == nar
    made.finish()
    table = made.frames()
    assert (table is not None) == (filled > 1)
    if table:
        assert_every_frame_decodes(table, blob, nar)


def test_solid_blobs_have_no_frames() -> None:
    for compression in KNOWN:
        assert learn(compression, COMPRESS[compression](NAR), len(NAR)) is None
    two_streams = lzma.compress(SMALL) + lzma.compress(SMALL)
    assert learn("xz", two_streams, 2 * len(SMALL)) is None
    one_frame = skippable(b"before") + COMPRESS["zstd"](NAR) + skippable(b"behind")
    assert learn("zstd", one_frame, len(NAR)) is None


@pytest.mark.parametrize(("largest", "used"), [(FRAME_MAX_BYTES, True), (FRAME_MAX_BYTES + 1, False)])
def test_frames_too_large_to_be_held_in_memory_make_no_table(largest: int, used: bool) -> None:
    recorder = FrameRecorder()
    for end, nar_end in ((100, 1000), (200, 1000 + largest), (300, 2000 + largest)):
        recorder.end_frame(end, nar_end)
    assert (recorder.finish("zstd", 300) is not None) == used


def test_frames_of_a_few_bytes_are_not_worth_a_table() -> None:
    assert learn("zstd", framed("zstd", NAR[:12_000], 10), 12_000) is None


def test_an_xz_index_larger_than_the_tail_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = framed("xz", NAR, 65536)
    monkeypatch.setattr("narfs.formats.compression.XZ_TAIL_BYTES", 20)
    assert learn("xz", blob, len(NAR)) is None
    monkeypatch.setattr("narfs.formats.compression.XZ_TAIL_BYTES", 200)
    assert learn("xz", blob, len(NAR)) is not None


@pytest.mark.parametrize("check", ["none", "crc32", "crc64", "sha256"])
@pytest.mark.parametrize("options", [[], ["--x86", "--lzma2=preset=1"]])
def test_an_xz_block_is_decoded_and_checked_with_any_check_and_filters(check: str, options: list[str]) -> None:
    program = ["xz", f"--check={check}", "--block-size=100000", "--threads=1", *options]
    blob = subprocess.run(program, input=NAR, capture_output=True, check=True).stdout
    table = learn("xz", blob, len(NAR))
    assert table is not None
    assert_every_frame_decodes(table, blob, NAR)
    if check != "none":
        frame = table.covering(NarSpan(NarOffset(0), NarOffset(1)))[0]
        data = bytearray(blob[frame.blob : frame.blob + frame.blob_length])
        data[-1] ^= 1
        with pytest.raises(FormatError):
            decode_frame("xz", bytes(data), frame.nar_length)


@pytest.mark.parametrize("kind", ["xz", "zstd", "zstd unsized"])
def test_a_frame_that_is_not_whole_or_not_as_promised_is_refused(kind: str) -> None:
    compression = kind.split(maxsplit=1)[0]
    blob = framed(kind, SMALL + NAR, len(SMALL))
    table = learn(compression, blob, len(SMALL + NAR))
    assert table is not None
    frame = table.covering(NarSpan(NarOffset(0), NarOffset(1)))[0]
    data = blob[frame.blob : frame.blob + frame.blob_length]
    assert decode_frame(compression, data, len(SMALL)) == SMALL
    wrong = [(data, len(SMALL) - 1), (data, len(SMALL) + 1), (data + b"junk", len(SMALL)), (b"", len(SMALL))]
    wrong += [(data[:-cut], len(SMALL)) for cut in (1, 4, 12, 20, len(data) - 1)]
    for damaged, nar_length in wrong:
        with pytest.raises(FormatError):
            decode_frame(compression, damaged, nar_length)


@pytest.mark.parametrize("compression", ["xz", "zstd"])
@given(data=st.binary(max_size=100), position=st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_a_damaged_frame_raises_nothing_but_a_format_error(compression: str, data: bytes, position: int) -> None:
    blob = framed("zstd", SMALL, 3000) if compression == "zstd" else lzma.compress(SMALL)[12:-28]
    with suppress(FormatError):
        decode_frame(compression, blob[:position] + data + blob[position + len(data) :], len(SMALL))


def test_only_framed_compressions_have_frames_to_decode() -> None:
    with pytest.raises(FormatError, match="gzip"):
        decode_frame("gzip", gzip.compress(SMALL), len(SMALL))


def test_covering_gives_just_the_frames_that_hold_the_span() -> None:
    blob = skippable(b"first") + framed("zstd", NAR[:5000], 1000)[:0]
    for part in in_parts(NAR[:5000], 1000):
        blob += COMPRESS["zstd"](part) + skippable(b"between") + skippable(b"and between")
    table = learn("zstd", blob, 5000)
    assert table is not None

    def starts(start: int, end: int) -> list[int]:
        return [frame.nar for frame in table.covering(NarSpan(NarOffset(start), NarOffset(end)))]

    assert starts(0, 1) == starts(0, 1000) == starts(999, 1000) == [0]
    assert starts(0, 1001) == starts(999, 1001) == [0, 1000]
    assert starts(1000, 2000) == [1000]
    assert starts(4999, 9000) == [4000]
    assert starts(5000, 9000) == starts(7, 7) == []
    assert starts(0, 5000) == [0, 1000, 2000, 3000, 4000]


def test_a_table_survives_its_bytes() -> None:
    table = learn("zstd", framed("zstd", NAR, 65536), len(NAR))
    assert table is not None
    data = table.to_bytes()
    assert FrameTable.from_bytes(data) == FrameTable.from_bytes(memoryview(data)) == table
    assert len(data) <= 24 + 16 * (len(NAR) // 65536 + 2)
    with pytest.raises(FormatError):
        FrameTable.from_bytes(data + b"x")
    for length in range(len(data)):
        with pytest.raises(FormatError):
            FrameTable.from_bytes(data[:length])


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_bytes_of_a_table_are_refused_or_still_make_sense(data: st.DataObject) -> None:
    table = learn("zstd", framed("zstd", SMALL, 500), len(SMALL))
    assert table is not None
    damaged = bytearray(table.to_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = FrameTable.from_bytes(bytes(damaged))
    except FormatError:
        return
    frames = read.covering(NarSpan(NarOffset(0), NarOffset(read.nar_size)))
    assert sum(frame.nar_length for frame in frames) == read.nar_size
    assert all(frame.blob + frame.blob_length <= read.blob_size for frame in frames)


def test_an_xz_index_that_counts_beyond_all_blobs_gives_no_frames() -> None:
    endless = b"\xff" * 20 + b"\1"
    index = b"\0\2" + endless * 4
    index += bytes(-len(index) % 4)
    footer = struct.pack("<II", 0, (len(index) + 4) // 4 - 1) + b"\0\0YZ"
    assert xz_frames(index + bytes(4) + footer, 1 << 40) is None


@pytest.mark.parametrize("compression", ["zstd", "xz", "gzip", "bzip2", "lz4"])
def test_empty_frames_without_end_are_refused_at_twice_the_nar(compression: str) -> None:
    decoding = decoder(compression, nar_size=1000)
    many = pack(b"", compression) * 1000
    with pytest.raises(FormatError, match="more than twice"):  # noqa: PT012 - what came before it counts
        while decoding.fed_bytes < 3 << 20:
            for piece in decoding.feed(many):
                assert not piece
