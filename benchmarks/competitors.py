"""Other ways to run programs of a closure that lies behind HTTP, each with the options that served it best.

They are sites like any other. What each one wants the closure turned into is served by the same nginx, through the same
proxy, as the lakes; none of them can show a NAR. ``lacks`` is what the reader of a table has to know besides the time.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from benchmarks import conversions
from benchmarks.conversions import CASYNC_CHUNKS, CASYNC_INDEX, RATARMOUNT, SQUASHFS, TAR, TAR_INDEX
from benchmarks.processes import mount_of
from benchmarks.sites import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.datasets import Dataset

_RCLONE = (
    *("--config", "", "--read-only", "--allow-other", "--file-perms", "0555", "--dir-perms", "0555", "--no-modtime"),
    *("--vfs-cache-mode", "full", "--dir-cache-time", "1000h", "--attr-timeout", "1000h", "--poll-interval", "0"),
)
"""Everything is kept and asked for once. Its HTTP remote cannot do without a HEAD for each file that it lists."""

_WHOLE_FILES = ("--checkers", "32")
"""So many HEADs at once: the cold run of B1 at 10 ms takes 2.7 s, with 8 (its default) 3.3 s."""

_PARTS = ("--buffer-size", "1M", "--vfs-read-chunk-size", "1M", "--vfs-read-chunk-size-limit", "16M")
"""For one large file, of which parts are read: squashfuse starts and runs B1 at 10 ms in 0.8 s and with 27 MB, by
default in 1.0 s and with 74."""


class Competitor(Protocol):
    """A site that shows all paths of a closure."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def lacks(self) -> str:
        """What it does not do that narfs does, and what it needs."""

    @property
    def exact(self) -> bool:
        """Whether kinds, executable bits and symlinks are shown as they are, and not only names and contents."""

    def shown(self) -> AbstractContextManager[Shown]:
        """Mount it with nothing cached; the tree is what holds the store paths."""


@dataclass(frozen=True, slots=True)
class _Rclone:
    url: str
    work: Path
    name: str = "rclone"
    lacks: str = "verification; a signature; symlinks and modes; the tree must be unpacked"
    exact: bool = False
    options: Sequence[str] = _WHOLE_FILES

    @contextmanager
    def shown(self) -> Iterator[Shown]:
        place, cache = self.work / "rclone", self.work / "rclone-cache"
        shutil.rmtree(cache, ignore_errors=True)
        what = ("rclone", "mount", ":http:", place, "--http-url", self.url, "--cache-dir", cache)
        command: list[str | Path] = [*what, *_RCLONE, *self.options]
        environment = os.environ | {"HOME": str(self.work)}
        with mount_of(command, place, log=self.work / "rclone.log", environment=environment) as (process, start_s):
            yield Shown(place, process.pid, start_s)


@dataclass(frozen=True, slots=True)
class _OnRclone:
    """A file system in one file, which rclone mounts and another program shows."""

    below: Competitor
    work: Path
    name: str
    lacks: str
    command: Callable[[Path, Path], Sequence[str | Path]]
    """From the folder that has the file, and the mountpoint."""
    exact: bool = True

    @contextmanager
    def shown(self) -> Iterator[Shown]:
        place = self.work / "on-rclone"
        with self.below.shown() as below:
            command = self.command(below.tree, place)
            with mount_of(command, place, log=self.work / "on-rclone.log") as (process, start_s):
                yield Shown(place, process.pid, below.start_s + start_s)


@dataclass(frozen=True, slots=True)
class _Casync:
    url: str
    work: Path
    name: str = "casync"
    lacks: str = (
        "a signature; it reads the archive from the front, so a late file costs all before it; must be converted"
    )
    exact: bool = True

    @contextmanager
    def shown(self) -> Iterator[Shown]:
        place, cache = self.work / "casync", self.work / "casync-cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(cache)}
        command = ("casync", "mount", f"--store={self.url}/{CASYNC_CHUNKS}", f"{self.url}/{CASYNC_INDEX}", place)
        with mount_of(command, place, log=self.work / "casync.log", environment=environment) as (process, start_s):
            yield Shown(place, process.pid, start_s)


def rclone(url: str, work: Path) -> Competitor:
    """Give rclone for a folder with large files, of which parts are read."""
    return _Rclone(url, work, options=_PARTS)


def folders(dataset: Dataset) -> dict[str, Path]:
    """Name what has to be served for those competitors whose programs are installed; made on first use."""
    conversion = {
        "rclone": ("rclone", conversions.tree),
        "squashfs": ("squashfuse", conversions.squashfs),
        "tar": (str(RATARMOUNT), conversions.tar),
        "casync": ("casync", conversions.casync),
    }
    there = {name: make for name, (program, make) in conversion.items() if shutil.which(program)}
    if "rclone" not in there:  # without it nothing reaches the next two
        there = {name: make for name, make in there.items() if name == "casync"}
    return {name: make(dataset) for name, make in there.items()}


def competitors(url: str, served: Sequence[str], work: Path) -> list[Competitor]:
    """Give the competitors whose ``folders`` are served below a URL."""
    every: dict[str, Competitor] = {
        "rclone": _Rclone(f"{url}/rclone", work),
        "squashfs": _OnRclone(
            rclone(f"{url}/squashfs", work),
            work,
            "squashfuse on rclone",
            "verification; a signature; must be converted, one image for each closure",
            lambda below, place: (shutil.which("squashfuse_ll") or "squashfuse", "-f", below / SQUASHFS, place),
        ),
        "tar": _OnRclone(
            rclone(f"{url}/tar", work),
            work,
            "ratarmount on rclone",
            "verification; a signature; compression; must be converted, one archive and index for each closure",
            lambda below, place: (RATARMOUNT, "-f", "--index-file", below / TAR_INDEX, below / TAR, place),
        ),
        "casync": _Casync(f"{url}/casync", work),
    }
    return [competitor for name, competitor in every.items() if name in served]
