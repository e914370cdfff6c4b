"""Which store paths somebody means: as a person writes them, and as a set that a View is asked to hold."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from narfs.errors import FormatError, UsageError
from narfs.formats.store_path import HASH_PART, STORE_DIR, StorePath

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINKS_MAX = 40
"""The kernel follows as many: path_resolution(7)."""


@dataclass(frozen=True, slots=True)
class PathName:
    """A store path as it was named: in full, or by its hash part alone."""

    hash_part: str
    path: StorePath | None = None
    below: str = ""
    """What was named inside it, without slashes around."""

    @classmethod
    def parse(cls, text: str) -> PathName:
        """Read ``/nix/store/x-y/sub``, ``x-y/sub``, a hash part, or a symlink such as ``./result`` into the store.

        Symlinks are read, not followed through the file system: what they point to need not exist on this machine.
        UsageError if it is none of these.
        """
        absolute = text
        first, _, below = text.partition("/")
        if HASH_PART.fullmatch(first):
            return cls(first, below=_inside(below, text))
        if HASH_PART.match(first) and first[32:33] == "-":
            absolute = f"{STORE_DIR}/{text}"
        elif not text.startswith(f"{STORE_DIR}/"):
            absolute = _resolved(text)
        try:
            path, below = StorePath.split(absolute)
        except FormatError as error:
            raise UsageError(f"{text}: not a store path: expected {error.expected}, found {error.found}") from error
        return cls(path.hash_part, path, _inside(below, text))


def _inside(below: str, text: str) -> str:
    """Normalize what is below a store path; ``..`` must not lead out of it."""
    inside = posixpath.normpath(below or ".")
    if inside == ".." or inside.startswith("../"):
        raise UsageError(f"{text}: leads out of its store path")
    return "" if inside == "." else inside


def _resolved(text: str) -> str:
    """Replace symlinks by what they say until the path lies in the store, whether that exists or not."""
    try:
        return _followed(os.path.abspath(text))  # noqa: PTH100 - textual, unlike Path.resolve
    except (OSError, ValueError) as error:  # a name that no file can have
        raise UsageError(f"{text}: neither a store path, its hash, nor a symlink into {STORE_DIR}") from error


def _followed(path: str) -> str:
    for _ in range(_LINKS_MAX):
        if path.startswith(f"{STORE_DIR}/"):
            return path
        parts = Path(path).parts
        for depth in range(1, len(parts) + 1):
            prefix = Path(*parts[:depth])
            if prefix.is_symlink():
                path = os.path.normpath(prefix.parent / prefix.readlink() / Path(*parts[depth:]))
                break
        else:
            break
    raise ValueError("ends outside of the store")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a View shall hold; not ``closed``: whatever the lakes have."""

    closed: bool = False
    paths: tuple[PathName, ...] = field(default=())
    closures: tuple[PathName, ...] = field(default=())
    allow_missing: bool = False

    @classmethod
    def of(
        cls,
        *,
        paths: Iterable[str] = (),
        closures: Iterable[str] = (),
        lists: Iterable[str] = (),
        allow_missing: bool = False,
    ) -> Selection:
        """Read names, and the texts of whole lists: one path a line, empty lines and ``#`` comments count nothing.

        A list makes a View closed even if it is empty: nobody who hands over a list means "everything".
        """
        texts = list(lists)
        lines = [line.strip() for text in texts for line in text.splitlines()]
        exact = [*paths, *(line for line in lines if line and not line.startswith("#"))]
        whole = tuple(map(PathName.parse, closures))
        return cls(
            closed=bool(exact or whole or texts),
            paths=tuple(map(PathName.parse, exact)),
            closures=whole,
            allow_missing=allow_missing,
        )
