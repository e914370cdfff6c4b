"""Which pushed trees refer to which store paths, and what they are called then. Pure.

A content-addressed path is named after its NAR and its references, and a reference is a name that stands somewhere in
the NAR. So names follow in rounds: a tree that mentions nobody has its final name at once; then the names of those
that mention only such; and so on. Nobody can mention itself: that would need the fixed point of a hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from narfs.formats.base32 import ALPHABET
from narfs.formats.store_path import HASH_PART_CHARS, StorePath, make_source_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SHAPES = bytes(ord("h") if chr(byte) in ALPHABET else byte if byte == ord("-") else ord(" ") for byte in range(256))
_MENTION = b"h" * HASH_PART_CHARS + b"-"


class MentionScanner:
    """Collects what looks like the beginning of a store path's name: 32 nix32 digits and a dash.

    Which of them are store paths is decided later, when all names are known, so one pass is enough. ``translate`` and
    ``find`` run at 500 MB/s together; a regular expression for the same manages 50.
    """

    def __init__(self) -> None:
        self.hash_parts: set[str] = set()
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; a mention may lie across the edge."""
        text = self._tail + piece
        shapes = text.translate(_SHAPES)
        at = shapes.find(_MENTION)
        while at >= 0:
            self.hash_parts.add(text[at : at + HASH_PART_CHARS].decode("ascii"))
            at = shapes.find(_MENTION, at + len(_MENTION))
        self._tail = text[-HASH_PART_CHARS:]


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a tree's NAR told."""

    name: str
    nar_hash: bytes
    nar_size: int
    hash_parts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Named:
    """A store path and the paths it refers to, sorted."""

    path: StorePath
    references: tuple[StorePath, ...] = ()


def name_trees(surveys: Sequence[Survey], known: Iterable[StorePath] = ()) -> list[Named]:
    """Name every tree, in the order given; a reference counts if it is another of the trees or in ``known``."""
    known = tuple(known)
    named = [Named(make_source_path(survey.name, survey.nar_hash)) for survey in surveys]
    for _ in surveys:  # each round settles at least one more tree
        candidates = {path.hash_part: path for path in (*known, *(one.path for one in named))}
        again = [_name(survey, candidates) for survey in surveys]
        if again == named:
            break
        named = again
    return named


def _name(survey: Survey, candidates: Mapping[str, StorePath]) -> Named:
    references = tuple(sorted({candidates[part] for part in survey.hash_parts if part in candidates}))
    return Named(make_source_path(survey.name, survey.nar_hash, references), references)


def references_first(references: Mapping[StorePath, Iterable[StorePath]]) -> list[StorePath]:
    """Order the keys so that each comes after those it refers to; what is no key is left out."""
    order: dict[StorePath, None] = {}
    entered: set[StorePath] = set()
    for root in references:
        # Iterative: a closure can be deeper than Python's stack. A path is met twice: going in and coming out.
        stack = [(root, False)]
        while stack:
            path, leaving = stack.pop()
            if leaving:
                order[path] = None
            elif path in references and path not in entered:
                entered.add(path)
                stack.append((path, True))
                stack.extend((reference, False) for reference in references[path])
    return list(order)
