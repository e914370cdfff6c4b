from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import pytest

from narfs.errors import FormatError, UsageError
from narfs.formats.narinfo import NarInfo
from narfs.formats.registration import registration
from narfs.formats.store_path import StorePath


def path(name: str) -> StorePath:
    return StorePath.from_digest(sha256(name.encode()).digest()[:20], name)


def narinfo(name: str, *references: str, deriver: str | None = None) -> NarInfo:
    return NarInfo(path(name), "nar/x", "none", b"\xab" * 32, 120, tuple(map(path, references)), deriver=deriver)


def test_an_entry_has_the_lines_that_nix_store_dump_db_writes() -> None:
    drv = path("one.drv").base_name
    assert registration([narinfo("one", "one", deriver=drv)]).splitlines() == [
        path("one").path,
        "ab" * 32,
        "120",
        f"/nix/store/{drv}",
        "1",
        path("one").path,
    ]


def test_references_come_first_whatever_the_order_given() -> None:
    members = [narinfo("top", "middle", "leaf", "top"), narinfo("middle", "leaf"), narinfo("leaf")]
    for given in (members, members[::-1]):
        lines = registration(given).splitlines()
        entries = [line for line, follows in pairwise(lines) if follows == "ab" * 32]
        assert entries == [path(name).path for name in ("leaf", "middle", "top")]


def test_a_set_that_is_not_closed_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=f"{path('top').base_name} refers to {path('leaf').base_name}"):
        registration([narinfo("top", "leaf")])


def test_a_cycle_which_no_store_has_is_a_format_error() -> None:
    with pytest.raises(FormatError, match="without a cycle"):
        registration([narinfo("a", "b"), narinfo("b", "a")])


def test_a_chain_longer_than_pythons_stack_is_written() -> None:
    chain = [narinfo(f"n{number}", f"n{number + 1}") for number in range(3000)]
    assert registration([*chain, narinfo("n3000")]).startswith(path("n3000").path)


def test_nothing_gives_nothing() -> None:
    assert registration([]) == ""
