from __future__ import annotations

import shutil
import subprocess
import tracemalloc
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats import nar_grammar
from narfs.formats.listing import Kind, NarListing
from narfs.formats.nar import (
    PEEK_BYTES,
    Contents,
    Enter,
    Leave,
    NarIndexer,
    NarReader,
    NarWriter,
    Regular,
    Root,
    Symlink,
    max_nodes,
    peek_root,
)
from narfs.offsets import NarOffset
from tests.support import trees
from tests.support.trees import ODD_TREE, File, Tree, dump, from_listing, string, strings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAGIC = string(b"nix-archive-1")
EMPTY_FILE = strings(b"(", b"type", b"regular", b"contents", b"", b")")


def index(nar: bytes, cuts: Iterable[int] = ()) -> NarListing:
    indexer = NarIndexer(len(nar))
    for begin, end in pairwise([0, *sorted(cuts), len(nar)]):
        indexer.feed(nar[begin:end])
    return indexer.finish()


def directory(*entries: tuple[bytes, bytes]) -> bytes:
    """Make a NAR of entries as they are given: in any order, with any names, around any bytes for a node."""
    inner = b"".join(strings(b"entry", b"(", b"name", name, b"node") + node + string(b")") for name, node in entries)
    return MAGIC + strings(b"(", b"type", b"directory") + inner + string(b")")


def nested(depth: int) -> bytes:
    """Make a NAR whose deepest node lies at ``depth``."""
    tree: Tree = {}
    for _ in range(depth):
        tree = {b"d": tree}
    return dump(tree)


def write(tree: Tree) -> Iterator[bytes]:
    writer = NarWriter()

    def node(name: bytes, tree: Tree) -> Iterator[bytes]:
        if isinstance(tree, File):
            yield writer.regular(name, tree.executable, len(tree.contents))
            yield tree.contents
        elif isinstance(tree, dict):
            yield writer.enter(name)
            for child in sorted(tree):
                yield from node(child, tree[child])
            yield writer.leave()
        else:
            yield writer.symlink(name, tree.target)

    yield from node(b"", tree)
    yield writer.finish()


def replay(events: Iterable[object]) -> Tree:
    """Make the tree that events tell of."""
    above: list[dict[bytes, Tree]] = [{}]
    files: list[tuple[dict[bytes, Tree], bytes, bool, int, bytearray]] = []
    for event in events:
        match event:
            case Enter(name):
                inner: dict[bytes, Tree] = {}
                above[-1][name] = inner
                above.append(inner)
            case Leave():
                above.pop()
            case Regular(name, executable, _, size):
                files.append((above[-1], name, executable, size, bytearray()))
                above[-1][name] = File(b"")
            case Symlink(name, target):
                above[-1][name] = trees.Symlink(target)
            case Contents(data):
                files[-1][4].extend(data)
    for parent, name, executable, size, contents in files:
        assert len(contents) == size
        parent[name] = File(bytes(contents), executable)
    return above[0][b""]


# Tokens.


@pytest.mark.parametrize("remainder", range(8))
def test_each_token_is_its_words_behind_the_padding_of_what_comes_before(remainder: int) -> None:
    padding = bytes((8 - remainder) % 8)
    close_file, close_entry = string(b")"), string(b")")
    entry, node = strings(b"entry", b"(", b"name"), string(b"node")
    assert nar_grammar.ENTRY[remainder] == padding + close_file + close_entry + entry
    assert nar_grammar.END[remainder] == padding + close_file + close_entry + string(b")")
    assert nar_grammar.ROOT_END[remainder] == padding + close_file
    assert nar_grammar.ENTRY[nar_grammar.OPENED] == entry
    assert nar_grammar.END[nar_grammar.OPENED] == string(b")")
    assert nar_grammar.ENTRY[nar_grammar.LEFT] == close_entry + entry
    assert nar_grammar.END[nar_grammar.LEFT] == close_entry + string(b")")
    for table, words in (
        (nar_grammar.DIRECTORY, (b"directory",)),
        (nar_grammar.REGULAR, (b"regular", b"contents")),
        (nar_grammar.EXECUTABLE, (b"regular", b"executable", b"", b"contents")),
        (nar_grammar.SYMLINK, (b"symlink", b"target")),
    ):
        assert table[remainder] == padding + node + strings(b"(", b"type", *words)
        assert table[nar_grammar.ROOT] == MAGIC + strings(b"(", b"type", *words)


def test_a_token_spells_its_words() -> None:
    assert nar_grammar.spell(nar_grammar.EXECUTABLE[3]) == "padding node ( type regular executable '' contents"


# What is legal.


@given(trees.trees())
def test_a_listing_tells_the_tree_and_where_its_contents_are(tree: Tree) -> None:
    nar = dump(tree)
    assert from_listing(index(nar), nar) == tree


@given(trees.trees(), st.data())
def test_a_nar_may_come_in_any_pieces(tree: Tree, data: st.DataObject) -> None:
    nar = dump(tree)
    cuts = data.draw(st.lists(st.integers(0, len(nar)), max_size=20))
    assert index(nar, cuts) == index(nar)


@pytest.mark.parametrize("tree", [ODD_TREE, File(b"x"), File(b"12345678", executable=True), trees.Symlink(b"t"), {}])
def test_a_nar_may_come_byte_by_byte(tree: Tree) -> None:
    nar = dump(tree)
    assert index(nar, range(len(nar))) == index(nar)
    assert from_listing(index(nar), nar) == tree


@given(trees.trees(), st.integers(1, 5000))
def test_events_tell_the_tree_and_its_contents(tree: Tree, piece: int) -> None:
    nar = dump(tree)
    reader = NarReader(contents=True)
    events: list[object] = []
    for at in range(0, len(nar), piece):
        for event in reader.feed(memoryview(nar)[at : at + piece]):
            events.append(event)
            if isinstance(event, Regular):
                assert nar[event.nar_offset - 8 : event.nar_offset] == event.size.to_bytes(8, "little")
    reader.finish()
    assert replay(events) == tree


def test_contents_are_no_events_unless_wanted() -> None:
    nar = dump({b"f": File(b"12345678")})
    offset = NarOffset(nar.index(b"12345678"))
    assert NarReader().feed(nar) == [Enter(b""), Regular(b"f", executable=False, nar_offset=offset, size=8), Leave()]


def test_the_contents_of_a_root_file_begin_at_96_and_of_an_executable_at_128() -> None:
    assert index(dump(File(b"x"))).node(0).nar_offset == 96
    assert index(dump(File(b"x", executable=True))).node(0).nar_offset == 128


def test_63_levels_are_legal_and_64_are_not() -> None:
    assert len(index(nested(63))) == 64
    with pytest.raises(FormatError, match="64 levels"):
        index(nested(64))


# What is not.

BAD_NARS = {
    "nothing": b"",
    "another magic": string(b"nix-archive-2") + EMPTY_FILE,
    "no node": MAGIC,
    "junk behind a file": MAGIC + EMPTY_FILE + b"\0",
    "junk behind a directory": directory() + bytes(8),
    "a second NAR": directory() + directory(),
    "a file without contents": MAGIC + strings(b"(", b"type", b"regular", b")"),
    "an executable flag with a value": MAGIC
    + strings(b"(", b"type", b"regular", b"executable", b"y", b"contents", b"", b")"),
    "fields in another order": MAGIC + strings(b"(", b"type", b"regular", b"contents", b"", b"executable", b"", b")"),
    "a node that is no file, directory or symlink": MAGIC + strings(b"(", b"type", b"fifo", b")"),
    "an entry without a node": MAGIC + strings(b"(", b"type", b"directory", b"entry", b"(", b"name", b"a", b")", b")"),
    "an empty name": directory((b"", EMPTY_FILE)),
    "a name of 256 bytes": directory((b"n" * 256, EMPTY_FILE)),
    "the name .": directory((b".", EMPTY_FILE)),
    "the name ..": directory((b"..", EMPTY_FILE)),
    "a slash in a name": directory((b"a/b", EMPTY_FILE)),
    "a NUL in a name": directory((b"a\0b", EMPTY_FILE)),
    "a name twice": directory((b"a", EMPTY_FILE), (b"a", EMPTY_FILE)),
    "names that fall": directory((b"b", EMPTY_FILE), (b"a", EMPTY_FILE)),
    "names sorted as signed bytes": directory((b"\x80", EMPTY_FILE), (b"\x7f", EMPTY_FILE)),
    "an empty target": dump(trees.Symlink(b"")),
    "a target of 4096 bytes": dump(trees.Symlink(b"t" * 4096)),
    "a NUL in a target": dump(trees.Symlink(b"a\0b")),
    "padding behind a name": directory((b"abc", EMPTY_FILE)).replace(b"abc\0", b"abc\1"),
    "padding behind contents": dump(File(b"abc")).replace(b"abc\0", b"abc\1"),
    "padding behind a target": dump(trees.Symlink(b"abc")).replace(b"abc\0\0\0\0\0", b"abc\0\0\0\0\1"),
    "padding behind a word": dump({}).replace(b"type\0", b"type\1"),
    "a length of 2**64 - 1": dump(File(b"")).replace(string(b"contents") + bytes(8), string(b"contents") + b"\xff" * 8),
}


@pytest.mark.parametrize("what", BAD_NARS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "byte by byte"])
def test_a_format_error_for(what: str, whole: bool) -> None:
    nar = BAD_NARS[what]
    with pytest.raises(FormatError):
        index(nar, () if whole else range(len(nar)))


@given(trees.trees(), st.data())
def test_a_cut_nar_is_refused(tree: Tree, data: st.DataObject) -> None:
    nar = dump(tree)
    cut = nar[: data.draw(st.integers(0, len(nar) - 1))]
    for indexer in NarIndexer(len(cut)), NarIndexer(len(nar)):
        with pytest.raises(FormatError):  # noqa: PT012 - either may notice
            indexer.feed(cut)
            indexer.finish()


@given(trees.trees(), st.binary(min_size=1, max_size=20))
def test_a_nar_with_junk_behind_is_refused(tree: Tree, junk: bytes) -> None:
    with pytest.raises(FormatError):
        index(dump(tree) + junk)
    with pytest.raises(FormatError):
        NarReader().feed(dump(tree) + junk)


def mutated(nar: bytes, data: st.DataObject) -> bytes:
    """Change some bytes; most of a NAR is words and lengths, so most changes hit them."""
    changed = bytearray(nar)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["set", "cut", "repeat", "insert"])):
            case "set":
                changed[at] = data.draw(st.sampled_from([0, 1, 7, 8, 40, 41, 255]))
            case "cut":
                del changed[at : at + data.draw(st.integers(1, 32))]
                changed = changed or bytearray(1)
            case "repeat":
                changed[at:at] = changed[at : at + 8 * data.draw(st.integers(1, 30))]
            case "insert":
                changed[at:at] = data.draw(st.binary(max_size=16))
    return bytes(changed)


@given(trees.trees(), st.data())
def test_whatever_is_accepted_is_the_one_nar_of_its_tree(tree: Tree, data: st.DataObject) -> None:
    nar = mutated(dump(tree), data)
    try:
        listing = index(nar, data.draw(st.lists(st.integers(0, len(nar)), max_size=3)))
    except FormatError:  # errors are fine, only this one
        pass
    else:
        assert dump(from_listing(listing, nar)) == nar


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_magic_give_a_format_error_or_wait(junk: bytes) -> None:
    with suppress(FormatError):
        NarReader().feed(MAGIC + junk)


def test_an_error_says_where_and_what_was_expected() -> None:
    nar = directory((b"a", EMPTY_FILE), (b"b", strings(b"(", b"type", b"fifo")))
    with pytest.raises(FormatError) as raised:
        index(nar)
    assert raised.value.offset == nar.index(b"fifo") - 8
    assert "node ( type symlink target" in raised.value.expected
    assert "fifo" in raised.value.found


def test_an_entry_that_is_too_long_is_refused_before_it_has_come() -> None:
    huge = (1 << 40).to_bytes(8, "little")
    for prefix in (
        MAGIC + strings(b"(", b"type", b"directory", b"entry", b"(", b"name"),
        MAGIC + strings(b"(", b"type", b"symlink", b"target"),
        b"",
        MAGIC + string(b"(")[:-8] + huge,
    ):
        with pytest.raises(FormatError):
            NarReader().feed(prefix + huge)


# Sizes.


def test_contents_that_do_not_fit_are_refused_with_their_length() -> None:
    nar = dump(File(b"x" * 1000))
    indexer = NarIndexer(1000)
    with pytest.raises(FormatError, match="contents that end before byte 1000"):
        indexer.feed(nar[:96])


def test_a_nar_of_another_size_than_promised_is_refused() -> None:
    nar = dump({b"a": {}})
    with pytest.raises(FormatError):
        NarIndexer(len(nar) - 1).feed(nar)
    longer = NarIndexer(len(nar) + 8)
    longer.feed(nar)
    with pytest.raises(FormatError, match="its end"):
        longer.finish()


def test_a_nar_of_too_many_names_is_refused() -> None:
    nar = dump({b"a" * 200: {}, b"b" * 200: {}})
    NarIndexer(len(nar), max_names_bytes=400).feed(nar)
    with pytest.raises(FormatError, match="399 bytes of names"):
        NarIndexer(len(nar), max_names_bytes=399).feed(nar)


def test_contents_pass_without_being_kept() -> None:
    piece = bytes(1 << 20)
    size = 1 << 34
    framing = NarWriter().regular(b"", executable=False, size=size)
    indexer = NarIndexer(1 << 35)
    indexer.feed(framing)
    tracemalloc.start()
    for _ in range(size // len(piece)):
        indexer.feed(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    indexer.feed(string(b")"))


def test_contents_can_be_skipped_and_nothing_else() -> None:
    nar = dump(File(b"x" * 20))
    indexer = NarIndexer(len(nar))
    with pytest.raises(ValueError, match="contents"):
        indexer.skip(1)
    indexer.feed(nar[:100])
    indexer.skip(16)
    with pytest.raises(ValueError, match="contents"):
        indexer.skip(1)
    indexer.feed(nar[116:])
    assert indexer.finish() == index(nar)


@given(trees.trees())
def test_no_nar_has_more_nodes_than_its_size_allows(tree: Tree) -> None:
    assert sum(1 for _ in trees.nodes(tree)) <= max_nodes(len(dump(tree)))


def test_a_directory_of_empty_directories_has_as_many_nodes_as_its_size_allows() -> None:
    tree: Tree = {b"%d" % number: {} for number in range(100)}
    assert max_nodes(len(dump(tree))) == 101
    assert max_nodes(0) == 1


# The root.


@given(trees.trees(), st.data())
def test_the_root_is_known_from_the_first_bytes(tree: Tree, data: st.DataObject) -> None:
    nar = dump(tree)
    match tree:
        case File(contents, executable):
            root = Root(Kind.REGULAR, executable, len(contents))
        case trees.Symlink(target):
            root = Root(Kind.SYMLINK, executable=False, size=len(target))
        case _:
            root = Root(Kind.DIRECTORY, executable=False, size=0)
    assert peek_root(nar[:PEEK_BYTES]) == root
    prefix = nar[: data.draw(st.integers(0, len(nar)))]
    indexer = NarIndexer(len(nar))
    indexer.feed(prefix)
    assert peek_root(prefix) in (None, root)
    assert indexer.root in (None, root) or root.kind is Kind.DIRECTORY


def test_a_peek_at_junk_is_a_format_error() -> None:
    with pytest.raises(FormatError):
        peek_root(b"<html>")


# Writing.


@given(trees.trees())
def test_what_is_written_is_what_the_reference_writes(tree: Tree) -> None:
    assert b"".join(write(tree)) == dump(tree)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"n" * 256, b"a"])
def test_the_writer_refuses_a_name(name: bytes) -> None:
    writer = NarWriter()
    writer.enter(b"")
    writer.symlink(b"b", b"t")
    with pytest.raises(FormatError):
        writer.enter(name)


def test_the_writer_refuses_what_no_nar_can_hold() -> None:
    for target in b"", b"t" * 4096, b"a\0b":
        with pytest.raises(FormatError):
            NarWriter().symlink(b"", target)
    with pytest.raises(FormatError):
        NarWriter().regular(b"", executable=False, size=1 << 63)
    writer = NarWriter()
    for _ in range(64):
        writer.enter(b"d")
    with pytest.raises(FormatError, match="64 levels"):
        writer.enter(b"d")


@pytest.mark.nix
@pytest.mark.skipif(shutil.which("nix-store") is None, reason="nix-store is missing: apt install nix-bin")
def test_real_nix_dumps_the_same_bytes(tmp_path: Path) -> None:
    trees.write_to_disk(ODD_TREE, tmp_path / "tree")
    dumped = subprocess.run(["nix-store", "--dump", tmp_path / "tree"], check=True, capture_output=True).stdout
    assert dumped == dump(ODD_TREE)
    assert trees.read_from_disk(tmp_path / "tree") == ODD_TREE
