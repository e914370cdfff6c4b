r"""A derivation: what a ``.drv`` file says, as far as a builder's View needs it.

::

    Derive([(NAME,PATH,ALGORITHM,HASH)*],[(DRV,[OUTPUT*])*],[SOURCE*],SYSTEM,BUILDER,[ARGUMENT*],[(KEY,VALUE)*])

Texts are in double quotes; within them ``\n``, ``\r``, ``\t`` and a backslash in front of anything else. Nix writes no
white space. Derivations of another version begin with ``DrvWithVersion`` and are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from narfs.errors import FormatError
from narfs.formats.quote import quote
from narfs.formats.store_path import StorePath

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Derivation:
    """Outputs and inputs; an output whose path only its build will tell has None."""

    outputs: Mapping[str, StorePath | None]
    input_derivations: Mapping[StorePath, tuple[str, ...]]
    """By the path of their ``.drv``: which of their outputs."""
    input_sources: tuple[StorePath, ...]

    @classmethod
    def parse(cls, text: str) -> Derivation:
        """Read the file's text; FormatError."""
        reader = _Reader(text)
        reader.take("Derive(")
        outputs = reader.items(reader.output)
        reader.take(",")
        derivations = reader.items(reader.input)
        reader.take(",")
        sources = reader.items(reader.path)
        for one in (reader.text, reader.text):
            reader.take(",")
            one()
        reader.take(",")
        reader.items(reader.text)
        reader.take(",")
        reader.items(reader.pair)
        reader.take(")")
        reader.end()
        return cls(dict(outputs), dict(derivations), tuple(sources))


class _Reader:
    """Reads from a text, from the front."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def take(self, expected: str) -> None:
        if not self._text.startswith(expected, self._at):
            raise self._bad(repr(expected))
        self._at += len(expected)

    def end(self) -> None:
        if self._at != len(self._text):
            raise self._bad("the end")

    def text(self) -> str:
        found = _TEXT.match(self._text, self._at)
        if found is None:
            raise self._bad("a text in quotes")
        self._at = found.end()
        return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), found[1])

    def items(self, item: Callable[[], T]) -> list[T]:
        self.take("[")
        found: list[T] = []
        while not self._text.startswith("]", self._at):
            if found:
                self.take(",")
            found.append(item())
        self.take("]")
        return found

    def path(self) -> StorePath:
        return StorePath.parse_absolute(self.text())

    def output(self) -> tuple[str, StorePath | None]:
        self.take("(")
        name = self.text()
        self.take(",")
        path = self.text()
        for _ in range(2):
            self.take(",")
            self.text()
        self.take(")")
        return name, StorePath.parse_absolute(path) if path else None

    def input(self) -> tuple[StorePath, tuple[str, ...]]:
        self.take("(")
        path = self.path()
        self.take(",")
        if self._text.startswith("(", self._at):
            raise self._bad("names of outputs (dynamic derivations are not supported)")
        outputs = self.items(self.text)
        self.take(")")
        return path, tuple(outputs)

    def pair(self) -> None:
        self.take("(")
        self.text()
        self.take(",")
        self.text()
        self.take(")")

    def _bad(self, expected: str) -> FormatError:
        found = quote(self._text[self._at : self._at + 40])
        return FormatError("derivation", offset=self._at, expected=expected, found=found)
