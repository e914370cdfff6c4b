"""What a daemon wrote down for the next one, and what else may be in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from narfs.daemon.erofs.shown import Shown
from narfs.daemon.views.records import Records
from narfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = Shown("/mnt", "/images/one", 3, ((4096, 2, "name", "ff"),))


def test_what_was_written_is_read() -> None:
    assert (
        Shown.parse(b'{"place": "/mnt", "image": "/images/one", "slab": 3, "ranges": [[4096, 2, "name", "ff"]]}')
        == KNOWN
    )


def test_no_flipped_bit_lays_a_slab_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "one.shown"
    KNOWN.write(file)
    assert Shown.read(file) == KNOWN
    good = file.read_bytes()
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes((good[place] ^ 1 << place % 8,)) + good[place + 1 :])
        assert Shown.read(file) is None
    file.write_bytes(good[:-1])
    assert Shown.read(file) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"place": "/mnt", "image": "/images/one", "slab": Infinity, "ranges": []}',
        b'{"place": "/mnt", "image": "/images/one", "slab": 3, "ranges": [[1]]}',
        b'{"place": "/mnt", "image": "/images/one", "slab": 3, "ranges": 7}',
    ],
)
def test_what_is_not_so_is_nothing(data: bytes) -> None:
    assert Shown.parse(data) is None


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", '{"name": 7}'])
def test_a_record_of_a_view_that_cannot_be_read_is_said_and_no_more(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises((UsageError, ValueError)):
        Records(tmp_path).read("one")
