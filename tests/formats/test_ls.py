from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats.ls import MAX_LS_BYTES, from_ls, layout, to_ls
from tests.support import trees
from tests.support.listings import listing_of
from tests.support.trees import ODD_TREE, File, Tree, dump

if TYPE_CHECKING:
    from pathlib import Path


def ls(root: object, version: object = 1) -> bytes:
    return json.dumps({"version": version, "root": root}).encode()


def regular(**members: object) -> dict[str, object]:
    return {"type": "regular", "size": 5} | members


def directory(**entries: object) -> dict[str, object]:
    return {"type": "directory", "entries": entries}


@given(trees.trees())
def test_what_is_written_reads_as_the_same_listing(tree: Tree) -> None:
    assert from_ls(to_ls(listing_of(tree))) == listing_of(tree)


@given(trees.trees())
def test_the_layout_of_a_tree_gives_its_offsets_and_its_nar_size(tree: Tree) -> None:
    assert layout(listing_of(tree)) == (listing_of(tree), len(dump(tree)))


def test_names_that_are_no_text_are_written_as_they_are() -> None:
    written = to_ls(listing_of({b"\xff\xfe": trees.Symlink(b"\x80")}))
    assert b'"\xff\xfe":{"type":"symlink","target":"\x80"}' in written


def test_key_order_unknown_keys_and_missing_offsets_do_not_matter() -> None:
    listing = listing_of({b"a": File(b"12345"), b"b": File(b"", executable=True)})
    a = {"narOffset": listing.node(1).nar_offset, "size": 5, "type": "regular", "executable": False, "sha256": "?"}
    b = {"executable": True, "type": "regular", "size": 0}
    assert from_ls(ls({"entries": {"b": b, "a": a}, "type": "directory"})) == listing


BAD_LS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "junk behind": ls(directory()) + b"}",
    "no object": b"[]",
    "no root": b'{"version":1}',
    "another version": ls(directory(), version=2),
    "a wrong offset": ls(regular(narOffset=104)),
    "an offset that is no number": ls(regular(narOffset="96")),
    "a size that is no number": ls(regular(size="5")),
    "a size with a fraction": ls(regular(size=5.5)),
    "a size that is a boolean": ls(regular(size=True)),
    "a negative size": ls(regular(size=-1)),
    "a size beyond all files": ls(regular(size=1 << 63)),
    "sizes that add up beyond all files": ls(directory(a=regular(size=1 << 62), b=regular(size=1 << 62))),
    "a number of 10000 digits": b'{"version":1,"root":{"type":"regular","size":' + b"9" * 10_000 + b"}}",
    "a flag that is no boolean": ls(regular(executable="yes")),
    "a node of no kind": ls({"size": 5}),
    "a node of another kind": ls({"type": "fifo"}),
    "a node that is no object": ls(directory(a=[])),
    "a directory without entries": ls({"type": "directory"}),
    "entries that are no object": ls({"type": "directory", "entries": []}),
    "a symlink without target": ls({"type": "symlink"}),
    "an empty target": ls({"type": "symlink", "target": ""}),
    "an empty name": ls({"type": "directory", "entries": {"": regular()}}),
    "the name ..": ls({"type": "directory", "entries": {"..": regular()}}),
    "a slash in a name": ls({"type": "directory", "entries": {"a/b": regular()}}),
    "a name of 256 bytes": ls({"type": "directory", "entries": {"n" * 256: regular()}}),
    "a name twice": b'{"version":1,"root":{"type":"directory","entries":{"a":{},"a":{}}}}',
    "a name twice in disguise": ls({"type": "directory", "entries": {"\udcc3\udca9": regular(), "é": regular()}}),
    "half a surrogate pair": ls({"type": "symlink", "target": "\ud800"}),
    "64 levels": b'{"version":1,"root":' + b'{"type":"directory","entries":{"d":' * 64 + b"{}" + b"}}" * 64 + b"}",
    "100 000 levels": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("what", BAD_LS)
def test_a_format_error_for(what: str) -> None:
    with pytest.raises(FormatError):
        from_ls(BAD_LS[what])


def test_a_ls_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(FormatError):
        from_ls(bytes(MAX_LS_BYTES + 1))


@given(trees.trees(), st.data())
def test_whatever_is_accepted_has_the_one_layout_of_its_tree(tree: Tree, data: st.DataObject) -> None:
    written = bytearray(to_ls(listing_of(tree)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(written) - 1))
        written[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from([b"", b"9", b'"', b"{", b"\xff"]))
        written = written or bytearray(1)
    with suppress(FormatError):
        listing = from_ls(bytes(written))
        assert layout(listing)[0] == listing


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "entries", "size", "target", "narOffset", "a"]), inner, max_size=4)
    ),
)


@given(json_values)
def test_any_json_gives_a_listing_or_a_format_error(value: object) -> None:
    for document in json.dumps(value).encode(), ls(value):
        with suppress(FormatError):
            from_ls(document)


@pytest.mark.nix
@pytest.mark.skipif(shutil.which("nix") is None, reason="nix is missing: apt install nix-bin")
def test_real_nix_lists_the_same(tmp_path: Path) -> None:
    nar = tmp_path / "odd.nar"
    nar.write_bytes(dump(ODD_TREE))
    command = [
        "nix",
        "--extra-experimental-features",
        "nix-command",
        "nar",
        "ls",
        "--json",
        "--recursive",
        str(nar),
        "/",
    ]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    listed = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
    assert from_ls(b'{"version":1,"root":' + listed + b"}") == listing_of(ODD_TREE)
    assert to_ls(listing_of(ODD_TREE)) == b'{"version":1,"root":' + listed.strip() + b"}"
