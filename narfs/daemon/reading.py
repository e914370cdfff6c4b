"""Looking at one store path without a mount: ``ls``, ``cat`` and ``info``.

The cache directory has one owner. If it is free, it is ours for the moment. If a live daemon holds it and serves the
same stores under the same keys, its mount is read instead: the kernel is the interface, and what the daemon has cached
is used. Otherwise everything is fetched uncached.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import trio

from narfs.daemon import control
from narfs.daemon.directories import runtime_directory
from narfs.daemon.session import open_session
from narfs.daemon.status import serves
from narfs.daemon.trees import MountedTrees, NarTrees, shown
from narfs.errors import CacheHeld, IsADirectory, NarfsError, NotFound
from narfs.formats.listing import Kind
from narfs.formats.store_path import STORE_DIR, StorePath

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from narfs.daemon.config import Config
    from narfs.daemon.selection import PathName
    from narfs.daemon.trees import Entry, Trees

_LINKS_MAX = 40


async def locate(trees: Trees, path: StorePath, below: str, *, follow: bool) -> Entry:
    """Find what a person named, through symlinks on the way; the last one is followed only if ``follow``.

    A symlink may lead into another store path, as those of a profile do, but not out of the store.
    """
    parts = _parts(os.fsencode(below))
    for _ in range(_LINKS_MAX):
        link = await _first_link(trees, path, parts)
        if link.target is None or (not follow and link.parts == parts):
            return link
        rest = parts[len(link.parts) :]
        path, parts = _behind(link, rest)
    raise NotFound(f"{shown(path, parts)}: too many symlinks")


async def _first_link(trees: Trees, path: StorePath, parts: tuple[bytes, ...]) -> Entry:
    """Walk down until a symlink that is in the way, or to the end; an entry without a target is the end."""
    entry = await trees.entry(path, ())
    for depth in range(1, len(parts) + 1):
        if entry.target is not None:
            return entry
        entry = await trees.entry(path, parts[:depth])
    return entry


def _behind(link: Entry, rest: tuple[bytes, ...]) -> tuple[StorePath, tuple[bytes, ...]]:
    """Say where a path goes on behind a symlink; textually, for what is above the link holds no symlinks."""
    here = b"/".join((link.path.path.encode(), *link.parts[:-1])) if link.parts else STORE_DIR.encode()
    there = os.fsdecode(os.path.normpath(b"/".join((here, link.target or b"", *rest))))
    if (link.target or b"").startswith(b"/"):
        there = os.fsdecode(os.path.normpath(b"/".join((link.target or b"", *rest))))
    if not there.startswith(f"{STORE_DIR}/"):
        raise NotFound(
            f"{shown(link.path, link.parts)}: a symlink to {ascii(there)[1:-1]}, which is not in {STORE_DIR}"
        )
    path, below = StorePath.split(there)
    return path, _parts(os.fsencode(below))


def _parts(below: bytes) -> tuple[bytes, ...]:
    return tuple(part for part in below.split(b"/") if part)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a command looks with, and the full name of the store path that was named."""

    trees: Trees
    path: StorePath


@asynccontextmanager
async def open_trees(config: Config, name: PathName) -> AsyncIterator[Reading]:
    """Open the best way to look at the path that was named."""
    async with AsyncExitStack() as opened:
        try:
            session = await opened.enter_async_context(open_session(config, if_held="refuse"))
        except CacheHeld as held:
            mountpoint = _mountpoint_of(held.pid, config, name)
            if mountpoint is not None and name.path is not None:
                yield Reading(MountedTrees(mountpoint), name.path)
                return
            session = await opened.enter_async_context(open_session(config, if_held="uncached"))
        yield Reading(NarTrees(session), (await session.describe(name)).narinfo.path)


def _mountpoint_of(pid: int, config: Config, name: PathName) -> Path | None:
    """Find the mount of process ``pid`` if it shows the path and would answer as we would."""
    sockets = [socket for socket in control.sockets(runtime_directory(os.environ)) if control.pid_of(socket) == pid]
    if not sockets or name.path is None:
        return None
    try:
        told = control.ask(sockets[0], "status")
    except NarfsError:
        return None
    mountpoint = Path(told["mount"]["mountpoint"])
    serves_alike = told["serves"] == serves(config)
    return mountpoint if serves_alike and os.path.lexists(mountpoint / name.path.base_name) else None


@dataclass(frozen=True, slots=True)
class Listed:
    """What ``ls`` found; the first ``below`` parts of each are those of the directory that was asked for."""

    found: list[Entry]
    below: int


async def list_path(config: Config, name: PathName, *, recursive: bool) -> Listed:
    """List a directory, or give the one entry that is none."""
    async with open_trees(config, name) as reading:
        entry = await locate(reading.trees, reading.path, name.below, follow=False)
        if entry.kind is not Kind.DIRECTORY:
            return Listed([entry], len(entry.parts))
        found = []
        # Children come out of the stack before their siblings: the order of the NAR.
        todo = (await reading.trees.children(entry))[::-1]
        while todo:
            child = todo.pop()
            found.append(child)
            if recursive and child.kind is Kind.DIRECTORY:
                todo += (await reading.trees.children(child))[::-1]
        return Listed(found, len(entry.parts))


async def copy_contents(config: Config, name: PathName, out: IO[bytes]) -> None:
    """Write a file to ``out``, blocking: nothing else goes on but the fetching of what comes next."""
    async with open_trees(config, name) as reading:
        entry = await locate(reading.trees, reading.path, name.below, follow=True)
        if entry.kind is Kind.DIRECTORY:
            raise IsADirectory(f"{shown(entry.path, entry.parts)}: is a directory; narfs ls lists it")
        async with aclosing(reading.trees.contents(entry)) as pieces:
            async for piece in pieces:
                await trio.to_thread.run_sync(out.write, piece)
        out.flush()
