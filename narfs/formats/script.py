"""What a program in text says of the files that it will read.

``#!`` names an interpreter. A wrapper as Nix writes them names programs by their full store paths. And a Python module
names other modules: only what stands outside of functions and classes is read here, for that is run when it is loaded,
also in a ``try`` or an ``if``, but not what is imported for a type checker alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_INTERPRETER_BYTES: Final = 4096
"""The kernel reads 256, with the newline."""
MOST_STORE_FILES: Final = 64
"""Of one text; wrappers name a handful."""
MOST_IMPORTS: Final = 512
"""Of one module; large ones have 50."""
MOST_NAMES: Final = 256
"""In one statement."""

_STORE_FILE: Final = re.compile(rb"/nix/store/[0-9a-z]{32}-[0-9A-Za-z+\-._?=]{1,211}/[0-9A-Za-z+\-._?=/@~%,]{1,4000}")

_CONDITIONS: Final = (b"try:", b"else:", b"if ", b"elif ", b"finally:", b"with ")
"""How a line at the margin begins whose block is run, or may be, when the module is loaded. What stands behind an
``except`` is what a module does without something that is mostly there."""
_NEVER: Final = tuple(
    b"if " + condition
    for condition in (
        b"TYPE_CHECKING",
        b"typing.TYPE_CHECKING",
        b"__name__",
        *(
            b"%b == %b%b" % (what, quote, name)
            for what, name in ((b"sys.platform", b"win32"), (b"os.name", b"nt"))
            for quote in (b"'", b'"')
        ),
    )
)
_INDENTED: Final = (b" ", b"\t", b"", b"\r", b"#", b")")
"""First characters of lines that end no block at the margin."""
_MOST_CANDIDATES: Final = 1024
"""Words that may be statements, so that no module takes longer than 10 ms; real ones have 50."""
_MOST_LINES_UP: Final = 16
_MOST_LINE_BYTES: Final = 1024
_MOST_BEFORE_BYTES: Final = 256
"""In a line before its ``import``: a module's name."""

_STATEMENT: Final = re.compile(
    rb"([ \t]{0,16})(?:from[ \t]+([.\w]+)[ \t]+)?import[ \t]+(\([^)]{0,4096}|(?:[^#;\\\n]|\\\r?\n){1,4096})"
)
_NAME: Final = re.compile(rb"(?:[\s\\]|#[^\n]*\n)*([\w.]+)")


class Import(NamedTuple):
    """One module that is loaded, ``level`` packages up from the importing one; 0: from wherever modules are."""

    level: int
    module: tuple[bytes, ...]
    """Its name in parts; empty: the package itself."""
    names: tuple[bytes, ...]
    """What is taken out of it: other modules, maybe."""
    sure: bool
    """Whether it is loaded in any case; else in a ``try`` or an ``if``."""


def interpreter(beginning: bytes) -> tuple[bytes, ...]:
    """Give the words of a ``#!`` line, the program first; none if there is no such line."""
    if not beginning.startswith(b"#!"):
        return ()
    return tuple(beginning[2:MOST_INTERPRETER_BYTES].partition(b"\n")[0].split())


def store_files(data: bytes) -> list[bytes]:
    """Give the full paths below store paths that a program mentions, each once."""
    found: dict[bytes, None] = {}
    for match in _STORE_FILE.finditer(data):
        found[match[0].rstrip(b"./,")] = None
        if len(found) >= MOST_STORE_FILES:
            break
    return list(found)


def python_imports(source: bytes) -> list[Import]:
    """Give what a Python module imports when it is loaded. 2 µs for a kilobyte."""
    found: dict[Import, None] = {}
    at = -1
    for _ in range(_MOST_CANDIDATES):
        if (at := source.find(b"import ", at + 1)) < 0 or len(found) >= MOST_IMPORTS:
            break
        line = source.rfind(b"\n", max(0, at - _MOST_BEFORE_BYTES), at) + 1
        statement = _STATEMENT.match(source, line)
        if statement is None or (statement[1] and not _is_run(source, line - 1)):
            continue
        found.update(dict.fromkeys(_imports(statement[2], statement[3], sure=not statement[1])))
    return list(found)


def _is_run(text: bytes, at: int) -> bool:
    """Say whether the indented line behind ``at`` is run when the module is loaded, by the last line at the margin."""
    for _ in range(_MOST_LINES_UP):
        begin = text.rfind(b"\n", max(0, at - _MOST_LINE_BYTES), at)
        line = text[begin + 1 : at] if begin >= 0 or at <= _MOST_LINE_BYTES else b""
        if line[:1] not in _INDENTED:
            return line.startswith(_CONDITIONS) and not line.startswith(_NEVER)
        at = begin
        if begin < 0:
            break
    return False


def _imports(module: bytes | None, text: bytes, *, sure: bool) -> Iterator[Import]:
    parts = text.lstrip(b"(").split(b",", MOST_NAMES)[:MOST_NAMES]
    words = [name[1] for part in parts if (name := _NAME.match(part)) is not None]
    if module is None:
        yield from (Import(0, tuple(word.split(b".")), (), sure) for word in words)
        return
    level = len(module) - len(module.lstrip(b"."))
    yield Import(level, tuple(filter(None, module.split(b"."))), tuple(words), sure)
