from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from narfs.errors import Unavailable, UsageError
from narfs.formats.listing import Kind
from narfs.formats.nar import NarIndexer
from narfs.publish.nar_dump import dump

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.formats.listing import NarListing


def nar_of(path: Path) -> bytes:
    return b"".join(dump(os.fsencode(path)))


def index(nar: bytes) -> NarListing:
    indexer = NarIndexer(len(nar))
    indexer.feed(nar)
    return indexer.finish()


def test_a_tree_is_dumped_in_nar_order_with_all_a_nar_can_hold(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "sub" / "tool").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "tool").chmod(0o700)
    (root / "group-x").write_bytes(b"only the owner's bit counts")
    (root / "group-x").chmod(0o610)
    (root / "link").symlink_to("nowhere")
    with open(os.fsencode(root) + b"/caf\xe9\n", "wb") as file:  # noqa: PTH123 - not every name is UTF-8
        file.write(b"latin1")
    listing = index(nar_of(root))
    found = {path: listing.node(number) for path, number in listing.walk()}
    assert list(found) == [b"", b"caf\xe9\n", b"group-x", b"link", b"sub", b"sub/empty", b"sub/tool"]
    assert [node.kind for node in found.values()].count(Kind.DIRECTORY) == 3
    assert found[b"sub/tool"].executable
    assert not found[b"group-x"].executable
    assert listing.target(found[b"link"].id) == b"nowhere"


def test_contents_stand_where_the_listing_says(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(bytes(range(256)) * 5000)
    nar = nar_of(tmp_path)
    node = index(nar).node(2)
    assert nar[node.nar_offset : node.nar_offset + node.size] == bytes(range(256)) * 5000


def test_pieces_of_a_large_file_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 * 2**20 + 1))
    assert max(map(len, dump(os.fsencode(tmp_path)))) == 2**20


@pytest.mark.parametrize("make", [lambda path: path.write_text("file"), lambda path: path.symlink_to("x")])
def test_the_root_may_be_a_file_or_a_symlink(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "root")
    assert len(index(nar_of(tmp_path / "root"))) == 1


def test_names_are_sorted_as_bytes(tmp_path: Path) -> None:
    for name in ("a", "a.b", "a-b", "a\x7f", "é", "B"):
        (tmp_path / name).touch()
    assert [path for path, _ in index(nar_of(tmp_path)).walk()][1:] == [
        *(b"B", b"a", b"a-b", b"a.b", b"a\x7f", "é".encode())
    ]


@pytest.mark.parametrize("kind", ["socket", "fifo"])
def test_what_no_nar_can_hold_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "strange"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    with pytest.raises(UsageError, match="strange: neither file, directory nor symlink"):
        nar_of(tmp_path)


def test_a_device_is_named() -> None:
    with pytest.raises(UsageError, match="/dev/null: neither"):
        list(dump(b"/dev/null"))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent: cannot be read: No such file"):
        nar_of(tmp_path / "absent")


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").touch()

    def refuse(path: bytes, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)  # the tests run as root, whom nothing is refused
    with pytest.raises(UsageError, match="secret: cannot be read: Permission denied"):
        nar_of(tmp_path)


def test_a_file_that_shrinks_meanwhile_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(2**21))
    pieces = dump(os.fsencode(tmp_path))
    while len(next(pieces)) < 2**20:
        pass
    os.truncate(tmp_path / "log", 2**20)
    with pytest.raises(Unavailable, match="log: became shorter"):
        list(pieces)


def test_a_file_that_becomes_a_pipe_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    pieces = dump(os.fsencode(tmp_path))
    while next(pieces) != b"first":
        pass
    (tmp_path / "b").unlink()
    os.mkfifo(tmp_path / "b")
    with pytest.raises(Unavailable, match="b: was replaced"):
        list(pieces)


def test_a_tree_deeper_than_a_nar_may_be_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["d"] * 64)
    deep.mkdir(parents=True)
    with pytest.raises(UsageError, match="no NAR can hold it"):
        nar_of(tmp_path)
