"""The few words of FUSE that are spoken here, against the structures of linux/fuse.h written out."""

from __future__ import annotations

import stat
from contextlib import suppress
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats import fuse_protocol as fuse

NO_OPEN, HAS_RESEND, MAX_PAGES = 1 << 17, 1 << 39, 1 << 22


def request(opcode: int, body: bytes = b"", *, unique: int = 7, node: int = 1, extensions: int = 0) -> bytes:
    return pack("=IIQQIIIHH", 40 + len(body), opcode, unique, node, 0, 0, 0, extensions, 0) + body


def asked(major: int = 7, minor: int = 45, flags: int = 2**64 - 1) -> memoryview:
    return memoryview(pack("=IIIII44x", major, minor, 131072, flags & 0xFFFFFFFF, flags >> 32))


def test_a_read_is_of_a_node_and_says_where_and_how_much() -> None:
    got = fuse.parse_request(request(fuse.Opcode.READ, pack("=QQIIQII", 0, 1 << 40, 131072, 0, 0, 0, 0), node=1 << 62))
    assert (got.opcode, got.unique, got.node) == (15, 7, 1 << 62)
    assert fuse.parse_read(got.body) == (1 << 40, 131072)


def test_a_request_made_again_keeps_its_mark_in_the_answer() -> None:
    unique = 1 << 63 | 12
    assert fuse.answer_head(fuse.parse_request(request(3, unique=unique)).unique, 4) == pack("=IiQ", 20, 0, unique)


def test_extensions_are_no_part_of_a_name() -> None:
    got = fuse.parse_request(request(fuse.Opcode.LOOKUP, b"name\0" + bytes(8), extensions=1))
    assert fuse.parse_name(got.body) == b"name"


def test_the_kernel_is_granted_what_it_has_and_no_more() -> None:
    told = unpack("=IIIIHHIIHHI28x", fuse.init_body(asked(flags=NO_OPEN | MAX_PAGES | 1 << 30)))
    assert told[:4] == (7, 38, 131072, NO_OPEN | MAX_PAGES | 1 << 30)
    assert told[8] * 4096 == fuse.READ_MAX_BYTES
    assert told[10] == 0
    assert unpack("=IIIIHHIIHHI28x", fuse.init_body(asked()))[10] == HAS_RESEND >> 32


@pytest.mark.parametrize("old", [asked(minor=37), asked(flags=0)])
def test_a_kernel_that_is_too_old_is_refused(old: memoryview) -> None:
    with pytest.raises(FormatError):
        fuse.init_body(old)


def test_answers_have_the_lengths_that_the_kernel_checks() -> None:
    file = fuse.Attributes(9, stat.S_IFREG | 0o400, 5000)
    assert len(fuse.entry_body(file)) == 128
    assert len(fuse.attributes_body(file)) == 104
    assert len(fuse.statfs_body(5000)) == 80
    assert len(fuse.init_body(asked())) == 64
    assert unpack("=QQQ", fuse.attributes_body(file)[16:40]) == (9, 5000, 10)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_harm_than_a_format_error(data: bytes) -> None:
    for parse in (fuse.parse_request, lambda body: fuse.parse_read(memoryview(body))):
        with suppress(FormatError):
            parse(data)
    with suppress(FormatError):
        fuse.init_body(memoryview(data))
