"""Everything that reads what strangers wrote, one line each: bytes in; a NarfsError may come out, and nothing else.

A target also asks what it was given for all that can be asked of it, and where there is a writer, it writes what was
read and reads that again: it has to be the same. What only the holder of a key could write goes to the parser behind
the check of the signature.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from time import thread_time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import unquote

import trio

from narfs.cache.pins import Pin
from narfs.daemon import control_server
from narfs.daemon.erofs.shown import Shown
from narfs.daemon.views.spec import ViewSpec
from narfs.errors import FormatError, NarfsError
from narfs.formats import base32, fuse_protocol, script
from narfs.formats.cache_info import CacheInfo
from narfs.formats.compression import KNOWN, decoder
from narfs.formats.derivation import Derivation
from narfs.formats.digest import Hash
from narfs.formats.elf import needs_of
from narfs.formats.erofs.image import FIRST_PART_BLOCK, head, root_of
from narfs.formats.erofs.lot import lot_blocks, lot_key
from narfs.formats.erofs.part import Layout
from narfs.formats.frames import FrameTable, decode_frame, xz_frames
from narfs.formats.index import NarIndex
from narfs.formats.listing import NarListing
from narfs.formats.ls import from_ls, layout, to_ls
from narfs.formats.nar import NarIndexer, NarReader, peek_root
from narfs.formats.narinfo import NarInfo
from narfs.formats.nix_conf import NixConf
from narfs.formats.package_name import without_version
from narfs.formats.profile import Profile
from narfs.formats.profile_object import read_profile
from narfs.formats.quote import printable, quote
from narfs.formats.registration import registration
from narfs.formats.seal import unseal_beginning
from narfs.formats.sealed_head import SealedHead
from narfs.formats.sealed_pages import PagedIndex
from narfs.formats.signature import PublicKey, SecretKey, Signature
from narfs.formats.store_path import StorePath
from narfs.formats.worker_protocol import ServerConnection
from narfs.lake.answer import means_absent, place_body
from narfs.lake.content_encoding import decode
from narfs.lake.direct import DirectClient
from narfs.lake.exchange import translated
from narfs.lake.response import FOREIGN, BadStatusError
from narfs.lake.retry import Failure, pause_before_retry
from narfs.lake.s3_answer import Asker, S3Failure
from narfs.lake.store_url import StoreUrl
from narfs.offsets import NarOffset, NarSpan
from tests.fuzz.seeds import FRAME_BYTES, HEAD, KEY, KEYS, SEALED, add_checksum, cut
from tests.support.listings import ask_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from narfs.lake.link import Link, Origin

_T = TypeVar("_T")

NAR_SIZE = 1 << 20
"""What the narinfo of a blob says here: more is a bomb."""


class _Writable(Protocol):
    def to_bytes(self) -> bytes: ...


_W = TypeVar("_W", bound=_Writable)


def _round_trip(parse: Callable[[bytes], _W], data: bytes) -> _W:
    found = parse(data)
    assert parse(found.to_bytes()) == found
    return found


def _texts(parse: Callable[[str], _T], data: bytes) -> _T:
    found = parse(data.decode(errors="surrogateescape"))
    assert parse(str(found)) == found
    return found


def _refused(parse: Callable[[_T], object], data: _T) -> bool:
    """Say whether it is refused, in words that no terminal obeys."""
    try:
        parse(data)
    except FormatError as error:
        if not str(error).isprintable():
            raise AssertionError(f"a terminal obeys {str(error)!a}") from error
        return True
    return False


def _nar(data: bytes) -> None:
    """All three readers agree on what is a NAR, however it is cut."""
    whole, pieces, reader = NarIndexer(len(data)), NarIndexer(len(data)), NarReader()

    def at_once(data: bytes) -> None:
        whole.feed(data)
        whole.finish()

    def in_pieces(data: bytes) -> None:
        step = 7 + len(data) // 16
        for start in range(0, len(data), step):
            pieces.feed(data[start : start + step])
        pieces.finish()

    def as_events(data: bytes) -> None:
        reader.feed(data)
        reader.finish()

    refused = {_refused(at_once, data), _refused(in_pieces, data), _refused(as_events, data)}
    assert len(refused) == 1
    if refused == {False}:
        listing = whole.builder.finish()
        assert listing == pieces.builder.finish()
        ask_everything(listing)
        assert from_ls(to_ls(listing)) == listing
    peek_root(data)


def _listing(data: bytes) -> NarListing:
    """The tree of a sealed index: whoever has an index key can sign any bytes."""
    nodes, children, names = cut(data, 3)
    return NarListing(memoryview(nodes), memoryview(names), memoryview(children))


def _ask_listing(data: bytes) -> None:
    listing = _listing(data)
    ask_everything(listing)
    list(listing.named(b"sh"))
    for node in range(len(listing)):
        listing.position(node, b"m")
        listing.name_lengths(node)
    listing.file_at(4096)
    listing.count_files()
    to_ls(listing)
    layout(listing)


def _erofs(data: bytes) -> None:
    listing = _listing(data)
    lot_key(bytes(32), listing)
    blocks, _ = lot_blocks(listing, NAR_SIZE)
    laid = Layout(listing)
    assert laid.blocks <= blocks
    part = laid.part(FIRST_PART_BLOCK, 0)
    _erofs_part(part)


def _erofs_part(data: bytes) -> None:
    head([root_of(b"a", data, FIRST_PART_BLOCK)], inodes=1, nar_bytes=NAR_SIZE)


def _narinfo(data: bytes) -> None:
    narinfo = _round_trip(NarInfo.parse, data)
    KEYS.verify(narinfo.fingerprint, narinfo.signatures)
    narinfo.content_address_matches  # noqa: B018 - a property that computes
    registration([replace(narinfo, references=())])


def _ls(data: bytes) -> None:
    listing = from_ls(data)
    ask_everything(listing)
    assert from_ls(to_ls(listing)) == listing


def _index(data: bytes) -> None:
    index = NarIndex.from_bytes(add_checksum(data))
    assert NarIndex.from_bytes(index.to_bytes()) == index
    _ask_index(index)


def _ask_index(index: NarIndex) -> None:
    index.root  # noqa: B018
    ask_everything(index.listing)
    for chunk in index.grid.covering(0, min(index.nar_size, 1 << 16))[:64]:
        index.digest(chunk)
        index.grid.span(chunk)
    if index.frames is not None:
        index.frames.covering(NarSpan(NarOffset(0), NarOffset(index.nar_size)))


def _frame_table(data: bytes) -> None:
    _round_trip(FrameTable.from_bytes, data).covering(NarSpan(NarOffset(3), NarOffset(1 << 40)))


def _frame(data: bytes) -> None:
    contents = decode_frame("xz" if data[:1] == b"\1" else "zstd", data[1:], FRAME_BYTES)
    assert len(contents) == FRAME_BYTES


def _compression(data: bytes) -> None:
    """Whole or in pieces: the same bytes, never more than were promised, and each piece within bounds."""
    compression = list(KNOWN)[data[0] % len(KNOWN)] if data else "none"
    blob = data[1:]
    begun, _ = _decoded(compression, blob, len(blob) or 1, NAR_SIZE)
    made = [_decoded(compression, blob, step, len(begun)) for step in (len(blob) or 1, 5)]
    assert made[0] == made[1] or not (made[0][1] and made[1][1])


def _decoded(compression: str, blob: bytes, step: int, nar_size: int) -> tuple[bytes, bool]:
    """Give what comes out, and whether that is all of it."""
    decoding = decoder(compression, nar_size=nar_size)
    out = bytearray()
    try:
        for start in range(0, len(blob), step):
            for piece in decoding.feed(blob[start : start + step]):
                assert len(piece) <= 1 << 20
                out += piece
        decoding.finish()
    except FormatError:
        return bytes(out), False
    finally:
        assert len(out) <= nar_size
    decoding.frames()
    return bytes(out), True


def _sealed_head(data: bytes) -> None:
    index = PagedIndex(SealedHead.parse(memoryview(data), SEALED.narinfo, KEY.public, 500))
    index.missing(0, SEALED.narinfo.nar_size)
    _ask_index(index.index)


def _sealed_page(data: bytes) -> None:
    """A page of the right length, and signed."""
    start, end = HEAD.page_span(0)
    page = data[: end - start].ljust(end - start, b"\0")
    digests = hashlib.sha256(page).digest() + bytes(HEAD.page_digests)[32:]
    paged = PagedIndex(replace(HEAD, page_digests=memoryview(digests)))
    paged.fill(0, page)
    _ask_index(paged.index)


def _worker_protocol(data: bytes) -> None:
    connection = ServerConnection("narfs")
    for start in range(0, len(data), 11):
        connection.feed(data[start : start + 11])
        while (request := connection.next_request()) is not None:
            request.name  # noqa: B018
            if request.last:
                return
        connection.take_output()


def _fuse(data: bytes) -> None:
    data = len(data).to_bytes(4, "little") + data[4:]
    request = fuse_protocol.parse_request(data)
    for parse in (fuse_protocol.parse_name, fuse_protocol.parse_read, fuse_protocol.init_body):
        _refused(parse, request.body)


class _CannedLink:
    """A server that says this whatever it is asked, and hangs up."""

    def __init__(self, origin: Origin, data: bytes) -> None:
        self.origin = origin
        self._data = data

    async def send(self, data: bytes) -> None:
        pass

    async def receive(self, max_bytes: int) -> bytes:
        part, self._data = self._data[: min(max_bytes, 700)], self._data[min(max_bytes, 700) :]
        return part

    def is_stale(self) -> bool:
        return True

    def close(self) -> None:
        pass


async def _http(data: bytes) -> None:
    async def dial(origin: Origin) -> Link:
        return _CannedLink(origin, data)  # type: ignore[return-value]  # all of it that is used

    client = DirectClient(dial, max_kept=0)
    try:
        response = await client.ask("GET", "http://cache.test/x", {"range": "bytes=0-4"})
        body = await response.read_up_to(2000)
        await response.aclose()
    except FOREIGN as error:
        raise translated(error, "http://cache.test/x") from error
    place_body(response.status, response.headers, asked=0, what="x")
    means_absent(response.status, body, admitted=True)


def _run(work: Callable[[bytes], Coroutine[Any, Any, None]], data: bytes) -> None:
    """Run what only wants to know the time and never waits: within trio without trio, which takes 1 ms to begin."""
    if not trio.lowlevel.in_trio_run():
        trio.run(work, data)
        return
    try:
        work(data).send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def _place_body(data: bytes) -> None:
    lines = data[2:].decode("latin-1").split("\n")
    headers = dict(zip(("content-range", "content-length", "etag", "retry-after"), lines, strict=False))
    status = int.from_bytes(data[:2], "little")
    failure = Failure(status=status, retry_after=headers.get("retry-after"))
    pause = pause_before_retry(failure, attempt=1, attempts=5, jitter=0.5, unix_time_s=1e9)
    assert pause is None or 0 <= pause <= 60
    translated(BadStatusError(status, None), "http://x")
    span = place_body(status, headers, asked=3, what="x")
    assert span.start <= 3


def _content_encoding(data: bytes) -> None:
    encoding, body = cut(data, 2)
    assert len(decode(encoding.decode("latin-1"), body, max_bytes=100_000, what="x")) <= 100_000


def _store_url(data: bytes) -> None:
    """Whatever a narinfo's URL is, what it names lies inside the lake, and the lake's own words hold no password."""
    text, name = (part.decode("latin-1") for part in cut(data, 2))
    url = StoreUrl.parse(text)
    assert url.userinfo is None or url.is_s3 or "@" not in url.netloc
    inside = url.name_of(name)
    path = inside.partition("?")[0] if url.scheme.startswith("http") else inside
    assert not {"", ".", ".."} & set(unquote(path).split("/"))
    url.has_same_origin(name)


def _s3_error(data: bytes) -> None:
    failure = S3Failure.read(data.decode(errors="replace"))
    failure.object_size  # noqa: B018
    for admitted in (False, True):
        failure.meaning("x", Asker("somebody", admitted, "http://h:1"), admitted=admitted)


async def _do(_: object) -> None:
    return


_OPERATIONS = {"status": control_server.Operation(_do, for_everybody=True), "stop": control_server.Operation(_do)}


def _view_spec(data: bytes) -> None:
    spec = ViewSpec.from_json(_json(data))
    assert ViewSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise FormatError("JSON", offset=0, expected="JSON", found="none") from None


def _shown(data: bytes) -> None:
    shown = Shown.parse(data)
    assert shown is None or Shown.parse(json.dumps(shown._asdict()).encode()) == shown


def _text(data: bytes) -> None:
    """What is shown of strangers' names is printable, on one line, and short where it is quoted."""
    assert quote(data).isprintable()
    assert len(quote(data)) <= 80
    shown = printable(data.decode(errors="surrogateescape"))
    assert shown.isprintable()
    shown.encode()
    without_version(shown)


def _base32(data: bytes) -> None:
    text = data.decode("latin-1")
    assert base32.encode(base32.decode(text, what="x")) == text


def _store_path(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    for parse in (StorePath.parse, StorePath.parse_absolute, StorePath.split):
        _refused(parse, text)
    path = StorePath.parse(data)
    assert StorePath.parse_absolute(path.path) == path


def _signature(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    for parse in (PublicKey.parse, SecretKey.parse, Signature.parse):
        _refused(parse, text)
    _texts(PublicKey.parse, data)


def _script(data: bytes) -> None:
    script.interpreter(data)
    script.store_files(data)
    script.python_imports(data)


def _include(path: str, required: bool) -> str:
    return f"include {path}" if required and "deep" in path else "netrc-file = /x"


TARGETS: Mapping[str, Callable[[bytes], object]] = {
    "nar": _nar,
    "listing": _ask_listing,
    "erofs": _erofs,
    "erofs_part": _erofs_part,
    "narinfo": _narinfo,
    "ls": _ls,
    "index": _index,
    "frame_table": _frame_table,
    "frame": _frame,
    "xz_index": lambda data: xz_frames(data, len(data)),
    "compression": _compression,
    "sealed": lambda data: unseal_beginning(data, SEALED.narinfo, KEYS),
    "sealed_head": _sealed_head,
    "sealed_page": _sealed_page,
    "signature": _signature,
    "cache_info": lambda data: _round_trip(CacheInfo.parse, data),
    "derivation": lambda data: Derivation.parse(data.decode(errors="surrogateescape")),
    "worker_protocol": _worker_protocol,
    "nix_conf": lambda data: NixConf.parse(data.decode(errors="surrogateescape"), _include),
    "base32": _base32,
    "digest": lambda data: Hash.parse(data.decode(errors="surrogateescape")),
    "store_path": _store_path,
    "elf": needs_of,
    "script": _script,
    "profile": lambda data: _round_trip(Profile.parse, data),
    "profile_object": lambda data: read_profile(data, None, KEYS),
    "fuse_protocol": _fuse,
    "http": partial(_run, _http),
    "content_encoding": _content_encoding,
    "place_body": _place_body,
    "store_url": _store_url,
    "s3_error": _s3_error,
    "control": lambda data: control_server._request_in(data, _OPERATIONS, 65536, may_do_all=False),
    "view_spec": _view_spec,
    "shown": _shown,
    "pin": lambda data: _round_trip(partial(Pin.from_bytes, "x"), data),
    "text": _text,
}


MOST_SECONDS = 2.0
"""Of a processor, for one input. The slowest of the corpus takes 20 ms."""


def judge(target: str, data: bytes) -> None:
    """Give an input to a target; anything but a NarfsError is a bug, and so is a long silence."""
    begin = thread_time()
    try:
        TARGETS[target](data)
    except NarfsError:
        return
    finally:
        assert thread_time() - begin < MOST_SECONDS, f"it took {thread_time() - begin:.1f} s"
