"""Binding the directory of a View to where it is wanted, and taking it, or an EROFS mount, off again.

Each call here asks the file system that this process serves: in a thread, or the answer would have to come from the
loop that waits for it.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from narfs.daemon import linux
from narfs.errors import NotFound, Unavailable, UsageError
from narfs.mount.mounted import mount_at, mountinfo, shows
from narfs.mount.mountpoint import find, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PATIENCE_S: Final = 10.0
"""For an unmount; lazily it takes less than a millisecond."""


async def bind(view: Path, at: Path) -> Path:
    """Show a View's directory at ``at``, empty and existing, and give its real path; UsageError, Unavailable."""
    place = await prepare(at)
    await _in_thread(place, lambda: linux.bind(str(view), str(place), recursive=False))
    return place


async def unbind(place: Path, *, lazily: bool) -> None:
    """Take it off again; UsageError if programs are in it, unless ``lazily``: then they keep what they have open.

    Cancelled, it is done all the same: nobody else knows of what a cancelled maker mounted. Unavailable if what it lies
    in does not answer.
    """
    unmount = partial(linux.unmount, str(place), linux.MNT_DETACH if lazily else 0)
    try:
        with trio.fail_after(_PATIENCE_S, shield=True):
            await _in_thread(place, unmount, abandon=True)
    except trio.TooSlowError:
        raise Unavailable(f"{place}: not unmounted within {_PATIENCE_S:.0f} s; what it lies in hangs") from None
    except _Busy as error:
        raise UsageError(f"{place}: in use; end the programs in it (fuser -m {place}), or remove it lazily") from error
    except NotFound:  # somebody else did it
        return


async def take_off(view: str, place: Path, *, lazily: bool) -> None:
    """Take a view off its place, unless somebody did: what is there then is not ours. As ``unbind``."""
    if shows(mountinfo(), place, view):
        await unbind(place, lazily=lazily)


async def clear(at: Path) -> None:
    """Take off what a daemon that died left at ``at``; UsageError, Unavailable if what it lies in does not answer."""
    place = await find(at)
    here = mount_at(place)
    if here is not None and here.is_ours:
        await unbind(place, lazily=True)


class _Busy(Exception):  # noqa: N818 - never leaves this module
    pass


async def _in_thread(place: Path, call: Callable[[], None], *, abandon: bool = False) -> None:
    one = trio.CapacityLimiter(1)  # of its own: a hundred that hang must not keep others waiting
    try:
        await trio.to_thread.run_sync(call, abandon_on_cancel=abandon, limiter=one)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _Busy from error
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise NotFound(f"{place}: {error.strerror}") from error
        hint = "; a daemon that is not root's shows its views in its own directory only" if os.geteuid() else ""
        raise Unavailable(f"{place}: {error.strerror}{hint}") from error
