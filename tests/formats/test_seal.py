"""The sealed index: read as it was written, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
from array import array
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.errors import Corrupt, FormatError, Untrusted
from narfs.formats.digest import Hash
from narfs.formats.frames import FrameTable
from narfs.formats.narinfo import NarInfo
from narfs.formats.seal import PROLOGUE_BYTES, head_end, open_head, seal, statement, unseal
from narfs.formats.sealed_pages import PagedIndex
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.offsets import ChunkGrid
from tests.support import trees
from tests.support.listings import ask_everything
from tests.support.sealing import Sealed, seal_tree
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from narfs.formats.index import NarIndex

KEY = SecretKey.generate("index.test-1")
OTHER_KEY = SecretKey.generate("index.test-2")
KEYS = PublicKeys((KEY.public,))
TREE: Tree = {b"a": File(bytes(range(256)) * 20), b"b": {b"%d" % i: File(b"x" * i) for i in range(30)}}
SEALED = seal_tree("x", TREE, frame_bytes=512)
OBJECT = seal(SEALED.index, SEALED.narinfo, [KEY], page_chunks=4)


def vouched(index: NarIndex) -> NarIndex:
    return replace(index, voucher=KEY.public)


@settings(max_examples=50)
@given(trees.trees(), st.sampled_from([64, 512, 4096]), st.integers(1, 5))
def test_what_is_sealed_reads_as_the_same_index(tree: Tree, frame_bytes: int, page_chunks: int) -> None:
    sealed = seal_tree("x", tree, frame_bytes=frame_bytes)
    data = seal(sealed.index, sealed.narinfo, [KEY], page_chunks=page_chunks)
    assert unseal(data, sealed.narinfo, KEYS) == vouched(sealed.index)


def equal_chunks(sealed: Sealed, frames: FrameTable | None) -> NarIndex:
    grid = ChunkGrid(len(sealed.nar), 1000)
    spans = map(grid.span, range(grid.count))
    digests = b"".join(hashlib.sha256(sealed.nar[span.start : span.end]).digest() for span in spans)
    return replace(sealed.index, grid=grid, digests=digests, frames=frames)


@pytest.mark.parametrize("framed", [True, False])
def test_a_lake_sealed_in_place_has_equal_chunks_and_frames_of_its_own_or_none(framed: bool) -> None:
    bounds = (array("Q", [12, 100, 100 + 12, 300]), array("Q", [0, 2000, 2000, len(SEALED.nar)]))
    index = equal_chunks(SEALED, FrameTable("xz", 400, *bounds) if framed else None)
    narinfo = replace(SEALED.narinfo, compression="xz", file_size=400)
    assert unseal(seal(index, narinfo, [KEY]), narinfo, KEYS) == vouched(index)


def test_frames_are_left_out_for_another_blob_of_the_same_nar() -> None:
    for other in (
        {"file_hash": Hash("sha256", bytes(32))},
        {"file_hash": None},
        {"file_size": 7},
        {"compression": "xz"},
    ):
        narinfo = replace(SEALED.narinfo, **other)
        assert unseal(OBJECT, narinfo, KEYS) == vouched(replace(SEALED.index, frames=None))


@pytest.mark.parametrize(
    "other",
    [
        {"path": seal_tree("y", TREE, frame_bytes=512).narinfo.path},
        {"nar_hash": bytes(32)},
        {"nar_size": SEALED.narinfo.nar_size + 8},
    ],
    ids=["path", "NarHash", "NarSize"],
)
def test_the_index_of_something_else_is_refused_and_what_differs_is_named(other: dict[str, object]) -> None:
    narinfo = replace(SEALED.narinfo, **other)  # type: ignore[arg-type]  # fields by name
    with pytest.raises(Corrupt, match="and not "):
        unseal(OBJECT, narinfo, KEYS)


def test_only_keys_that_are_trusted_for_indexes_count() -> None:
    data = seal(SEALED.index, SEALED.narinfo, [OTHER_KEY, KEY])
    assert unseal(data, SEALED.narinfo, KEYS).voucher == KEY.public
    for keys in (PublicKeys(), PublicKeys((SecretKey.generate("index.test-1").public,))):
        with pytest.raises(Untrusted, match=r"index\.test-2, index\.test-1"):
            unseal(data, SEALED.narinfo, keys)
    with pytest.raises(Untrusted):
        unseal(seal(SEALED.index, SEALED.narinfo, []), SEALED.narinfo, KEYS)


def test_the_signature_of_a_narinfo_is_none_of_an_index() -> None:
    narinfo = SEALED.narinfo.sign(KEY)
    text_end = PROLOGUE_BYTES + OBJECT[PROLOGUE_BYTES:].index(b"\n") + 1
    stolen = f"{narinfo.signatures[0]}\n".encode()
    text = OBJECT[PROLOGUE_BYTES:text_end] + stolen
    assert len(text) == int.from_bytes(OBJECT[12:16], "little")
    with pytest.raises(Untrusted):
        unseal(OBJECT[:PROLOGUE_BYTES] + text + OBJECT[PROLOGUE_BYTES + len(text) :], narinfo, KEYS)
    assert not statement(narinfo, bytes(32)).startswith("1;")


def test_a_page_can_be_fetched_by_itself_and_is_checked() -> None:
    end = head_end(OBJECT[:PROLOGUE_BYTES])
    head = open_head(OBJECT[:end], SEALED.narinfo, KEYS)
    assert head.pages == -(-SEALED.index.grid.count // 4) > 2
    pages = [OBJECT[slice(*head.page_span(page))] for page in range(head.pages)]
    assert end + sum(map(len, pages)) == len(OBJECT)
    for page, data in enumerate(pages):
        head.check_page(page, data)
        with pytest.raises(Corrupt):
            head.check_page(page, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Corrupt):
        head.check_page(0, pages[1])
    paged = PagedIndex(head)
    for page in (2, 0, 1, *range(3, head.pages)):
        paged.fill(page, pages[page])
    assert paged.index == vouched(SEALED.index)


def test_every_cut_and_every_flipped_byte_is_refused() -> None:
    for length in range(len(OBJECT)):
        with pytest.raises((FormatError, Corrupt)):
            unseal(OBJECT[:length], SEALED.narinfo, KEYS)
    with pytest.raises(FormatError):
        unseal(OBJECT + b"\0", SEALED.narinfo, KEYS)
    for at in range(len(OBJECT)):
        with pytest.raises((FormatError, Corrupt, Untrusted)):
            unseal(OBJECT[:at] + bytes([OBJECT[at] ^ 1]) + OBJECT[at + 1 :], SEALED.narinfo, KEYS)


def resigned(head: bytes, rest: bytes, narinfo: NarInfo) -> bytes:
    """Let the trusted key sign a head that is not what it should be."""
    packed = zstandard.ZstdCompressor().compress(head)
    signed = statement(narinfo, hashlib.sha256(packed).digest())
    text = f"{signed}\n{KEY.sign(signed)}\n".encode()
    prologue = OBJECT[:12] + len(text).to_bytes(4, "little") + len(packed).to_bytes(4, "little")
    return prologue + text + packed + rest


@settings(max_examples=300)
@given(st.data())
def test_nothing_but_refusals_come_of_a_signed_head_that_makes_no_sense(data: st.DataObject) -> None:
    end = head_end(OBJECT[:PROLOGUE_BYTES])
    start = PROLOGUE_BYTES + int.from_bytes(OBJECT[12:16], "little")
    head = bytearray(zstandard.ZstdDecompressor().decompress(OBJECT[start:end]))
    for _ in range(data.draw(st.integers(1, 4))):
        limit = data.draw(st.sampled_from([100, len(head)]))  # the fixed fields more often
        head[data.draw(st.integers(0, limit - 1))] = data.draw(st.sampled_from([0, 1, 2, 8, 127, 255]))
    with suppress(FormatError, Corrupt):
        ask_everything(unseal(resigned(bytes(head), OBJECT[end:], SEALED.narinfo), SEALED.narinfo, KEYS).listing)


def test_chunks_and_frames_that_no_memory_should_hold_are_refused() -> None:
    mib = 1 << 20
    narinfo = replace(SEALED.narinfo, nar_size=100 * mib, file_size=90 * mib)
    digest = hashlib.sha256(b"").digest()
    coarse = ChunkGrid(100 * mib, 50 * mib)
    index = replace(SEALED.index, nar_size=100 * mib, grid=coarse, digests=2 * digest, frames=None)
    with pytest.raises(FormatError, match="chunks and pages of legal size"):
        unseal(seal(index, narinfo, [KEY]), narinfo, KEYS)
    table = FrameTable("zstd", 90 * mib, array("Q", [0, 80 * mib, 90 * mib]), array("Q", [0, 1, 100 * mib]))
    index = replace(index, grid=ChunkGrid(100 * mib, mib), digests=100 * digest, frames=table)
    with pytest.raises(FormatError, match="held in memory"):
        unseal(seal(index, narinfo, [KEY]), narinfo, KEYS)


@settings(max_examples=100)
@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_refused(data: bytes, begun: bool) -> None:
    with pytest.raises((FormatError, Corrupt)):
        unseal(OBJECT[:16] + data if begun else data, SEALED.narinfo, KEYS)


def test_it_is_small() -> None:
    tree: Tree = {b"name-of-%05d" % number: File(b"x" * 10) for number in range(5000)}
    sealed = seal_tree("many", tree, frame_bytes=256 * 1024)
    data = seal(sealed.index, sealed.narinfo, [KEY])
    assert len(data) < 16 * 5000
    plain = sum(map(len, sealed.index.listing.buffers))
    assert plain <= 5001 * (64 + len("name-of-00000"))


GOLDEN = Path(__file__).parent.parent / "golden" / "seal"


def test_the_golden_index_is_read_as_ever() -> None:
    """Golden files were written by version 1 (README.md there); a reader of version 1 reads them for ever."""
    narinfo = NarInfo.parse((GOLDEN / "golden.narinfo").read_bytes())
    keys = PublicKeys.parse((GOLDEN / "index.pub").read_text())
    index = unseal((GOLDEN / "golden.narfs").read_bytes(), narinfo, keys)
    blob = (GOLDEN / "golden.nar.zst").read_bytes()
    nar = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(blob)
    assert hashlib.sha256(nar).digest() == narinfo.nar_hash
    assert index.frames is not None
    assert index.frames.blob_size == len(blob)
    assert [path for path, _ in index.listing.walk()] == [b"", b"bin", b"bin/tool", b"empty", b"link"]
    for chunk in range(index.grid.count):
        span = index.grid.span(chunk)
        assert index.digest(chunk) == hashlib.sha256(nar[span.start : span.end]).digest()
