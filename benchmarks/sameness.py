"""Whether a mount shows what the disk has: every name, kind and content compared, by sha256."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def assert_same(shown: Path, disk: Path, *, exact: bool) -> None:
    """Raise, naming what differs, unless a tree has all names of another and their contents.

    ``exact`` compares kinds, executable bits and targets of symlinks too; without it a symlink is what it leads to, and
    one that leads nowhere may be absent.
    """
    names = sorted(_names(disk), key=lambda name: name.split("/"))  # the order of archives, which some have to seek in
    different = [name for name in names if _fact(shown / name, exact=exact) != _fact(disk / name, exact=exact)]
    if exact:
        different += set(_names(shown)) - set(names)
    if different:
        raise RuntimeError(f"{shown} is not {disk}: {len(different)} differences, such as {different[:3]}")


def _names(tree: Path) -> Iterator[str]:
    """List everything below a tree, symlinks not followed; what Nix keeps beside its paths is none of them."""
    for folder, folders, files in os.walk(tree):
        folders[:] = [name for name in folders if name != ".links"]
        for name in (*folders, *files):
            yield os.path.relpath(os.path.join(folder, name), tree)  # noqa: PTH118 - twice as fast


def _fact(place: Path, *, exact: bool) -> tuple[str, ...]:
    try:
        mode = (place.lstat() if exact else place.stat()).st_mode
    except FileNotFoundError:
        return ("absent",)
    if stat.S_ISLNK(mode):
        return "symlink", str(place.readlink())
    if stat.S_ISDIR(mode):
        return ("directory",)
    with place.open("rb") as file:
        kind = "executable" if exact and mode & stat.S_IXUSR else "file"
        return kind, hashlib.file_digest(file, "sha256").hexdigest()
