"""What programs in text say of the files they will read."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from narfs.formats.script import MOST_IMPORTS, MOST_NAMES, Import, interpreter, python_imports, store_files

HASH = b"0123456789abcdfghijklmnpqrsvwxyz"


@pytest.mark.parametrize(
    ("beginning", "words"),
    [
        (b"#!/bin/sh\necho", (b"/bin/sh",)),
        (b"#! /usr/bin/env -S python3 -I\n", (b"/usr/bin/env", b"-S", b"python3", b"-I")),
        (b"#!\n", ()),
        (b"#", ()),
        (b"\x7fELF", ()),
        (b"#!/bin/sh", (b"/bin/sh",)),
    ],
)
def test_the_words_of_an_interpreter_line(beginning: bytes, words: tuple[bytes, ...]) -> None:
    assert interpreter(beginning) == words


def test_store_files_are_found_in_text_and_between_zeros() -> None:
    one, two = b"/nix/store/%b-a/bin/x" % HASH, b"/nix/store/%b-b-1.0/share/y.z" % HASH
    data = b'exec "%b" "$@"\n\0%b\0 %b, /nix/store/%b-c /nix/store/short-d/e' % (one, two, one, HASH)
    assert store_files(data) == [one, two]


def test_imports_are_those_that_are_run_when_the_module_is_loaded() -> None:
    source = b'''"""import nothing"""
import a, b.c as d  # import e
from . import (  # here
    f,
    # not g,
    h as i,
)
from ..j.k import *
try:
    from _l import m
except ImportError:
    n = 1
    import o
def p():
    import q
class R:
    from s import t
if TYPE_CHECKING:
    from u import v
if sys.platform == "win32":
    import w
else:
    import x
important = 1
'''
    assert python_imports(source) == [
        Import(0, (b"a",), (), sure=True),
        Import(0, (b"b", b"c"), (), sure=True),
        Import(1, (), (b"f", b"h"), sure=True),
        Import(2, (b"j", b"k"), (), sure=True),
        Import(0, (b"_l",), (b"m",), sure=False),
        Import(0, (b"x",), (), sure=False),
    ]


def test_python_itself_finds_the_same_imports_at_the_margin() -> None:
    files = sorted((Path(sys.base_prefix) / f"lib/python3.{sys.version_info.minor}").glob("*.py"))
    assert len(files) > 100
    for file in files:
        source = file.read_bytes()
        truth: set[tuple[int, bytes, tuple[bytes, ...]]] = set()
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                truth |= {(0, name.name.encode(), ()) for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = tuple(name.name.encode() for name in node.names if name.name != "*")
                truth.add((node.level, (node.module or "").encode(), names))
        found = {(each.level, b".".join(each.module), each.names) for each in python_imports(source) if each.sure}
        assert truth <= found, file
        assert len(found) <= len(truth) + 3, file  # those in texts


@given(st.binary())
@example(b"import " * 1000)
@example(b"from a import (" * 100)
@example(b" import " * 100_000)
@example(b"\n import a" * 30_000)
@example(b"x" * 200_000 + b"\n import a" * 30_000)
@example(b"\n".join(b"import m%d" % number for number in range(1000)))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    assert len(python_imports(data)) <= MOST_IMPORTS + 1000
    assert len(store_files(data)) <= 64
    interpreter(data)


def test_of_a_statement_with_very_many_names_the_first_are_read() -> None:
    names = [b"n%d" % number for number in range(500)]
    (found,) = python_imports(b"from a import " + b", ".join(names))
    assert list(found.names) == names[:MOST_NAMES]
