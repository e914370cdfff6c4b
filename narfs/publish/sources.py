"""What the arguments of a push mean.

::

    argument = NAME "=" PATH     a file or directory that becomes the source path NAME
             | PATH              the same, called like the file; or, where PATH is in the Nix store or a symlink
                                 into it (./result), that store path with what Nix knows of it

A name that exists as a file is taken for a PATH even if there is a "=" in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from narfs.errors import FormatError, UsageError
from narfs.formats.store_path import STORE_DIR, StorePath, make_source_path
from narfs.publish.push import StoreObject, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.publish.nix_store import NixStore
    from narfs.publish.push import Source


async def find_sources(arguments: Sequence[str], nix: NixStore, *, closure: bool) -> list[Source]:
    """Give the sources that ``arguments`` name, in their order; with ``closure`` all they refer to in the Nix store.

    Asks Nix only if one of them is a store path. The members of a closure follow at the end.
    """
    wanted = [_store_path(argument) for argument in arguments]
    in_store = list(dict.fromkeys(path for path in wanted if path))
    infos = {info.path: info for info in await nix.path_info(in_store, closure=closure)}
    members = [path for path in infos if path not in in_store]
    return [
        StoreObject(infos[path], nix.real_path(path)) if path else _tree(argument)
        for argument, path in [*zip(arguments, wanted, strict=True), *((path.path, path) for path in members)]
    ]


_MAX_LINKS = 40
"""As the kernel has it."""


def _store_path(argument: str) -> StorePath | None:
    place = _in_store(argument)
    if place is None:
        return None
    try:
        return StorePath.split(place)[0]
    except FormatError as error:
        raise UsageError(f"{argument}: {error}") from error


def _in_store(argument: str) -> str | None:
    """Follow symlinks until one leads into the store, and no further: a store path may be a symlink itself."""
    place, links = Path("/"), 0
    left = [*reversed((Path.cwd() / argument).parts[1:])]
    while left:
        name = left.pop()
        above, place = place, place.parent if name == ".." else place / name
        if str(place).startswith(f"{STORE_DIR}/"):
            return str(place)
        if place.is_symlink() and links < _MAX_LINKS:
            links += 1
            target = place.readlink()
            place = Path("/") if target.is_absolute() else above
            left.extend(reversed(target.relative_to("/").parts if target.is_absolute() else target.parts))
    return None


def _tree(argument: str) -> Tree:
    name, separator, path = argument.partition("=")
    if not separator or os.path.lexists(argument):
        name, path = Path(os.path.abspath(argument)).name, argument  # noqa: PTH100 - resolve() would follow a symlink
    try:
        make_source_path(name, bytes(32))
    except FormatError as error:
        raise UsageError(f"{argument}: {name!r} cannot be a store path's name: give one with NAME=PATH") from error
    return Tree(name, Path(path))
