"""The server's side against transcripts written by hand from the grammar, whole, byte by byte, and with junk."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats import worker_protocol
from narfs.formats.narinfo import NarInfo
from narfs.formats.signature import SecretKey
from narfs.formats.store_path import StorePath
from narfs.formats.worker_protocol import (
    MAX_REQUEST_BYTES,
    MAX_STRING_BYTES,
    Request,
    ServerConnection,
    integer,
    string,
)

GREETING = bytes.fromhex(
    "6378696e00000000"  # "cxin"
    "2601000000000000"  # 1.38
    "0000000000000000"  # no affinity
    "0000000000000000"  # no space is reserved
)
WELCOME = bytes.fromhex(
    "6f69786400000000"  # "oixd"
    "2301000000000000"  # 1.35
    "0900000000000000"
    "6e617266732031303300000000000000"  # "narfs 103"
    "0200000000000000"  # not trusted
    "73746c6100000000"  # LAST
)
IS_VALID_PATH = bytes.fromhex("0100000000000000" + "0500000000000000" + "2f782f795a000000")
ONE = StorePath("0" * 32 + "-one")
TWO = StorePath("1" * 32 + "-two")


def greeted(minor: int = 35) -> ServerConnection:
    connection = ServerConnection("narfs 103")
    connection.feed(GREETING.replace(b"\x26", bytes([minor])))
    assert connection.next_request() is None
    connection.take_output()
    return connection


def requests(connection: ServerConnection) -> list[Request]:
    found = []
    while (request := connection.next_request()) is not None:
        found.append(request)
        if request.last:
            break
    return found


def feed(connection: ServerConnection, data: bytes, step: int) -> list[Request]:
    found = []
    for start in range(0, len(data), step):
        connection.feed(data[start : start + step])
        found += requests(connection)
    return found


def ask(operation: int, *parts: bytes) -> Request:
    """Read one request that has another one behind it."""
    connection = greeted()
    connection.feed(integer(operation) + b"".join(parts) + IS_VALID_PATH)
    request, *rest = requests(connection)
    assert rest == ([] if request.last else [Request(1, (b"/x/yZ",), last=False)])
    return request


def list_of(*words: bytes) -> bytes:
    return integer(len(words)) + b"".join(map(string, words))


def test_the_greeting_is_the_golden_one() -> None:
    connection = ServerConnection("narfs 103")
    connection.feed(GREETING[:8])
    assert connection.next_request() is None
    assert connection.take_output() == WELCOME[:16], "an old client waits for this before it says its version"
    connection.feed(GREETING[8:])
    assert connection.next_request() is None
    assert connection.take_output() == WELCOME[16:]


@pytest.mark.parametrize(("minor", "length"), [(32, 24), (33, 48), (34, 48), (35, 56), (36, 56), (255, 56)])
def test_an_older_client_is_told_less(minor: int, length: int) -> None:
    connection = ServerConnection("narfs 103")
    connection.feed(GREETING.replace(b"\x26", bytes([minor])))
    assert connection.next_request() is None
    assert len(connection.take_output()) == length


def test_a_client_that_names_a_processor_is_greeted_too() -> None:
    connection = ServerConnection("narfs 103")
    connection.feed(GREETING[:16] + integer(1) + integer(3) + integer(0))
    assert connection.next_request() is None
    assert connection.take_output() == WELCOME


@pytest.mark.parametrize(
    ("data", "offset", "expected"),
    [
        (b"GET / HTTP/1.1\r\n", 0, "greeting"),
        (GREETING[:8] + integer(2 << 8), 8, "Nix 2.4"),
        (GREETING[:8] + integer(1 << 8 | 31), 8, "Nix 2.4"),
        (GREETING + integer(1) + integer(MAX_STRING_BYTES + 1), 40, "at most"),
        (GREETING + integer(1) + integer(2**64 - 1), 40, "at most"),
        (GREETING + integer(31) + integer(2**64 - 1), 40, "at most"),
        (GREETING + integer(19) + bytes(96) + integer(MAX_REQUEST_BYTES // 16), 136, "at most"),
        (GREETING + integer(1) + integer(3) + b"abc1\0\0\0\0", 48, "zeros"),
    ],
)
def test_what_is_no_client_is_refused_with_its_place(data: bytes, offset: int, expected: str) -> None:
    for step in (len(data), 1):
        with pytest.raises(FormatError, match=expected) as caught:
            feed(ServerConnection("narfs 103"), data, step)
        assert caught.value.offset == offset


def test_a_request_is_bounded_as_a_whole() -> None:
    data = integer(31) + integer(200) + string(bytes(MAX_STRING_BYTES)) * 200
    with pytest.raises(FormatError, match="at most"):
        feed(greeted(), data, MAX_STRING_BYTES)


def test_arguments_are_their_strings() -> None:
    assert ask(1, string(b"/nix/store/x")) == (1, (b"/nix/store/x",), False)
    assert ask(31, list_of(b"a", b"bcdefghi", b""), integer(1)) == (31, (b"a", b"bcdefghi", b""), False)
    assert ask(19, *map(integer, range(12)), integer(1), string(b"cores"), string(b"4")).words == (b"cores", b"4")
    assert ask(40, list_of()).words == ()
    assert ask(23) == (23, (), False)


@pytest.mark.parametrize("number", [7, 8, 36, 39, 44, 45, 0, 3, 48, 2**64 - 1])
def test_a_stream_and_what_is_unknown_have_no_end(number: int) -> None:
    assert ask(number).last


def test_operations_are_named() -> None:
    assert ask(46, list_of(b"x!*"), integer(0)).name == "build_paths_with_results"
    assert ask(7).name == "add_to_store"
    assert ask(48).name == "number 48"


def test_a_connection_is_idle_between_requests_only() -> None:
    connection = ServerConnection("narfs 103")
    assert not connection.idle
    connection.feed(GREETING[:-1])
    assert connection.next_request() is None
    assert not connection.idle
    connection.feed(GREETING[-1:] + IS_VALID_PATH[:1])
    assert connection.next_request() is None
    assert not connection.idle
    connection.feed(IS_VALID_PATH[1:9])
    assert connection.next_request() is None
    assert not connection.idle
    connection.feed(IS_VALID_PATH[9:])
    assert connection.next_request() == (1, (b"/x/yZ",), False)
    assert connection.idle


WORDS = st.lists(st.binary(max_size=40), max_size=5)
FIXED = sorted(worker_protocol._ARGUMENTS)
SHAPES = st.fixed_dictionaries({"number": st.sampled_from(FIXED), "words": WORDS, "cut": st.integers(1, 50)})


def encoded(number: int, words: list[bytes]) -> tuple[bytes, tuple[bytes, ...]]:
    """Write a request by the table of arguments, and say which words it could take."""
    given = iter(words)
    out, used = integer(number), []
    for kind in worker_protocol._ARGUMENTS[number]:
        if kind == "i":
            out += integer(7)
        elif kind == "s":
            used.append(next(given, b""))
            out += string(used[-1])
        else:
            rest = list(given)
            rest = rest[: len(rest) // 2 * 2] if kind == "P" else rest
            used += rest
            out += integer(len(rest) // (2 if kind == "P" else 1)) + b"".join(map(string, rest))
    return out, tuple(used)


@given(st.lists(SHAPES, max_size=4))
def test_requests_are_read_however_they_are_cut(shapes: list[dict[str, object]]) -> None:
    connection, expected, found = greeted(), [], []
    for shape in shapes:
        number, words, cut = shape["number"], shape["words"], shape["cut"]
        assert isinstance(number, int)
        assert isinstance(words, list)
        assert isinstance(cut, int)
        data, used = encoded(number, words)
        expected.append(Request(number, used, last=False))
        found += feed(connection, data, cut)
    assert found == expected


@given(st.binary(max_size=400), st.booleans(), st.lists(st.integers(0, 47), max_size=20))
def test_junk_is_requests_or_a_format_error(junk: bytes, after_greeting: bool, numbers: list[int]) -> None:
    connection = greeted() if after_greeting else ServerConnection("narfs 103")
    connection.feed(b"".join(map(integer, numbers)) + junk)
    try:
        requests(connection)
    except FormatError:
        return


def test_replies_are_the_golden_ones() -> None:
    key = SecretKey.generate("k-1")
    narinfo = NarInfo(
        ONE, "nar/x", "none", b"\xab" * 32, 258, (TWO, ONE, TWO), deriver=f"{'2' * 32}-one.drv", ca="fixed:r:sha256:x"
    ).sign(key)
    sig = str(narinfo.signatures[0]).encode()
    assert worker_protocol.path_info(narinfo) == (
        integer(1)
        + string(b"/nix/store/" + b"2" * 32 + b"-one.drv")
        + string(b"ab" * 32)
        + list_of(ONE.path.encode(), TWO.path.encode())
        + integer(0)
        + bytes.fromhex("0201000000000000")
        + integer(0)
        + list_of(sig)
        + string(b"fixed:r:sha256:x")
    )
    assert worker_protocol.path_info(None) == bytes(8)
    assert worker_protocol.paths([TWO, ONE]) == list_of(ONE.path.encode(), TWO.path.encode())
    assert worker_protocol.missing([ONE]) == bytes(16) + list_of(ONE.path.encode()) + bytes(16)
    assert string(b"\\udcff") in worker_protocol.failure(os.fsdecode(b"\xff"))
    assert worker_protocol.success(b"x") == bytes.fromhex("73746c6100000000") + b"x"
    assert (
        worker_protocol.failure("no")
        == bytes.fromhex(
            "7074786300000000"  # ERROR
            "0500000000000000" + "4572726f72000000"  # "Error"
            "0000000000000000"  # level: error
            "0500000000000000" + "4572726f72000000"
            "0200000000000000" + "6e6f000000000000"  # "no"
            "0000000000000000"  # no position
            "0000000000000000"  # no traces
        )
    )
