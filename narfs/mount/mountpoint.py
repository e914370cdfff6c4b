"""The directory to mount on: must be there and empty; a dead mount left there by a killed daemon is cleared first."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from narfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_PATIENCE_S = 5.0
"""A mount whose daemon hangs answers stat never; not bounded by this is the thread that asked, which is left behind."""

IMAGE_NAME = re.compile(r"narfs-(\d+)-(\d+)-\d+(?:-(.+))?\.erofs")
"""What images of EROFS mounts are called, after the process that made them, the device number of the mount that has
their slab, and the daemon's view if it is one; mountinfo has it."""

STAGE_SOURCE = "narfs-daemon"
"""What mountinfo has for the source of the one FUSE mount of a daemon, in which each view is a directory."""

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mounted(NamedTuple):
    """What /proc/self/mountinfo says of one mount."""

    kind: str
    source: str
    root: str = "/"
    """What of its file system is mounted."""
    device: str = ""

    @property
    def view(self) -> str | None:
        """The name of the daemon's view that is there, tree or EROFS; None of any other mount."""
        if self.kind == "erofs":
            image = self._image
            return None if image is None else image[3]
        name = self.root.removeprefix("/")
        return name if self.source == STAGE_SOURCE and name and "/" not in name else None

    @property
    def is_ours(self) -> bool:
        """Whether narfs mounted it."""
        return self.kind == "fuse.narfs" or self.slabs is not None

    @property
    def whose(self) -> str | None:
        """Say which view of a daemon is there, and how it goes; None if none is."""
        return self.view and f"view {self.view} of the daemon is there; narfs view remove {self.view}"

    @property
    def slabs(self) -> str | None:
        """The device of the mount that has the slab of an EROFS mount of ours; None of any other mount."""
        image = self._image
        return None if image is None else f"0:{image[2]}"

    @property
    def _image(self) -> re.Match[str] | None:
        return IMAGE_NAME.fullmatch(os.path.basename(self.source)) if self.kind == "erofs" else None  # noqa: PTH119


def lives(pid: int | str) -> bool:
    """Whether there is such a process, and not only what its parent has not asked for yet."""
    try:
        told = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return told.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def image_name(pid: int, slabs: str, number: int, view: str | None) -> str:
    """Name an image; ``slabs`` is the device of the mount that has its slab, ``view`` whose it is if a daemon's."""
    return f"narfs-{pid}-{slabs.removeprefix('0:')}-{number}{'' if view is None else f'-{view}'}.erofs"


def mounted_at(text: str, mountpoint: str) -> Mounted | None:
    """Find the topmost mount at exactly this place."""
    found = None
    for place, mounted in _all(text):
        if place == os.fsencode(mountpoint):
            found = mounted
    return found


def shows(text: str, place: Path, view: str) -> bool:
    """Whether this view of the daemon is at exactly this place, be it under something else."""
    return any(at == os.fsencode(place) and mounted.view == view for at, mounted in _all(text))


def mounted_over(text: str, slabs: str) -> dict[str, str]:
    """Give places and images of all EROFS mounts whose slabs are in the mount with this device."""
    return {os.fsdecode(place): mounted.source for place, mounted in _all(text) if mounted.slabs == slabs}


def _all(text: str) -> Iterator[tuple[bytes, Mounted]]:
    """Give all mounts, those below others first: proc_pid_mountinfo(5)."""
    for line in text.splitlines():
        fields, _, more = line.partition(" - ")
        _, _, device, *places = fields.split(" ")
        root, place = (_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), field) for field in places[:2])
        kind, source, *_ = more.split(" ")
        yield place.encode("latin-1", "replace"), Mounted(kind, source, root, device)


def place_of(mountpoint: Path) -> str:
    """Give the real path of a mountpoint without a question to what is mounted there, which may answer never."""
    if mountpoint.name in {"", ".."}:  # there is no name to take off
        return os.path.realpath(mountpoint)
    place = os.path.join(os.path.realpath(mountpoint.parent), mountpoint.name)  # noqa: PTH118 - resolve() would look
    return place if mount_at(place) else os.path.realpath(mountpoint)


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
        asked = next((Path(os.fsdecode(at)) for at, each in _all(mountinfo()) if each.device == here.slabs), None)
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


def mount_at(place: str | Path) -> Mounted | None:
    """Say what is mounted at a real path, without a question to it: we may be who would have to answer."""
    return mounted_at(mountinfo(), str(place))


def mountinfo() -> str:
    """Read what the kernel says of all mounts."""
    return Path("/proc/self/mountinfo").read_text(encoding="latin-1")
