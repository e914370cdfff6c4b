"""The directory to mount on: must be there and empty; a dead mount left there by a killed daemon is cleared first."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from narfs.errors import UsageError
from narfs.mount.mounted import mount_at, mountinfo, place_of, place_of_device

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PATIENCE_S = 5.0
"""A mount whose daemon hangs answers stat never; not bounded by this is the thread that asked, which is left behind."""


async def real(mountpoint: Path) -> Path:
    """Give the absolute place; UsageError if the file system does not answer."""
    return Path(await ask(mountpoint, os.path.realpath))


async def find(mountpoint: Path) -> Path:
    """Do as ``place_of`` in a thread; UsageError if the file system does not answer."""
    return Path(await ask(mountpoint, place_of))


async def prepare(mountpoint: Path, *, nonempty: bool = False) -> Path:
    """Give the absolute place, fit to be mounted on; UsageError says what is wrong with it."""
    place = await real(mountpoint)
    if await _is_dead(place):
        await detach(place)
    try:
        entry = await ask(place, _first_entry)
    except FileNotFoundError as error:
        raise UsageError(f"{place}: no such directory; create it first") from error
    except NotADirectoryError as error:
        raise UsageError(f"{place}: not a directory") from error
    except OSError as error:
        raise UsageError(f"{place}: cannot be mounted on: {error.strerror}") from error
    here = mount_at(place)
    if here is not None and here.is_ours:
        raise UsageError(f"{place}: {here.whose or f'narfs is mounted there already; narfs umount {place}'}")
    if entry is not None and not nonempty:
        raise UsageError(f"{place}: not empty; a mount would hide what is in it")
    return place


async def detach(place: Path) -> None:
    """Take a mount off its place even if it is busy or dead; UsageError if that is refused."""
    command = ["umount", "-l", "-i"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    done = await trio.run_process([*command, str(place)], capture_stderr=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise UsageError(f"{place}: a dead mount is in the way: {done.stderr.decode(errors='replace').strip()}")


async def _is_dead(place: Path) -> bool:
    here = mount_at(place)
    asked: Path | None = place
    if here is not None and here.slabs is not None:  # EROFS would answer for itself
        asked = place_of_device(mountinfo(), here.slabs)
    elif here is None or not here.kind.startswith("fuse"):
        return False
    if asked is None:
        return True
    try:
        await ask(asked, os.statvfs)
    except OSError:
        return True
    return False


async def ask(place: Path, question: Callable[[Path], T]) -> T:
    """Ask the file system in a thread, and give up on it when it hangs: UsageError."""
    with trio.move_on_after(_PATIENCE_S):
        # With a limiter of its own: 40 threads that hang would be all that the rest of the process may have.
        one = trio.CapacityLimiter(1)
        return await trio.to_thread.run_sync(question, place, abandon_on_cancel=True, limiter=one)
    raise UsageError(f"{place}: the file system there does not answer; is its daemon stopped? umount -l takes it away")


def _first_entry(place: Path) -> str | None:
    with os.scandir(place) as entries:
        return next((entry.name for entry in entries), None)
