"""What the kernel says is mounted: /proc/self/mountinfo. Without an event loop, for commands that only ask."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def place_of_device(text: str, device: str) -> Path | None:
    """Find where the file system with this device is mounted."""
    return next((Path(os.fsdecode(at)) for at, mounted in _all(text) if mounted.device == device), None)


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


def mount_at(place: str | Path) -> Mounted | None:
    """Say what is mounted at a real path, without a question to it: we may be who would have to answer."""
    return mounted_at(mountinfo(), str(place))


def mountinfo() -> str:
    """Read what the kernel says of all mounts."""
    return Path("/proc/self/mountinfo").read_text(encoding="latin-1")
