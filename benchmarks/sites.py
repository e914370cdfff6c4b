"""Ways to give the kernel one tree. A site is shown afresh as often as wanted; each time it is a new daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks import datasets
from benchmarks.processes import mount_of, nginx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from benchmarks.datasets import Dataset


@dataclass(frozen=True, slots=True)
class Shown:
    """A tree as it is shown now. ``pid`` is the daemon, 0 if there is none; ``start_s`` is what it took to answer."""

    tree: Path
    pid: int = 0
    start_s: float = 0.0


class Site(Protocol):
    """Something that shows a tree."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def shown(self) -> AbstractContextManager[Shown]:
        """Show the tree until the end of the block."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The unpacked tree, on whatever file system our files are kept."""

    tree: Path

    @property
    def name(self) -> str:
        """The file system's name."""
        command = ("stat", "--file-system", "--format=%T", self.tree)
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        return "ext4" if found == "ext2/ext3" else found

    @contextmanager
    def shown(self) -> Iterator[Shown]:
        """Show what is there anyway."""
        yield Shown(self.tree)


@dataclass(frozen=True, slots=True)
class Squashfuse:
    """A squashfs image behind squashfuse's low-level daemon."""

    image: Path
    work: Path
    name: str = "squashfuse"

    @contextmanager
    def shown(self) -> Iterator[Shown]:
        """Mount the image."""
        place = self.work / "squashfuse"
        program = shutil.which("squashfuse_ll") or "squashfuse"
        with mount_of((program, "-f", self.image, place), place, log=self.work / "squashfuse.log") as (
            process,
            start_s,
        ):
            yield Shown(place, process.pid, start_s)


@dataclass(frozen=True, slots=True)
class BarePyfuse3:
    """The same tree out of dicts: what the library itself costs."""

    tree: Path
    work: Path
    name: str = "bare pyfuse3"

    @contextmanager
    def shown(self) -> Iterator[Shown]:
        """Load the tree and mount it."""
        place = self.work / "bare"
        command = (sys.executable, "-m", "benchmarks.bare", self.tree, place)
        with mount_of(command, place, log=self.work / "bare.log") as (process, start_s):
            yield Shown(place, process.pid, start_s)


@dataclass(frozen=True, slots=True)
class Narfs:
    """A closed View of some datasets. ``remembers`` the cache of the time before, or begins with an empty one."""

    members: tuple[Dataset, ...]
    stores: tuple[str, ...]
    work: Path
    name: str = "narfs"
    remembers: bool = True
    module: str = "narfs"
    """What ``python -m`` runs."""
    frontend: str = "tree"

    @property
    def cache(self) -> Path:
        """Cache directory; sites with one ``work`` share it, never at the same time."""
        return self.work / "narfs-cache"

    @property
    def mountpoint(self) -> Path:
        """Where the store paths are shown."""
        return self.work / "narfs"

    @property
    def log(self) -> Path:
        """What the daemons said."""
        return self.work / "narfs.log"

    @contextmanager
    def shown(self) -> Iterator[Shown]:
        """Mount; the tree is the first dataset's top path, which lies beside the others."""
        if not self.remembers:
            shutil.rmtree(self.cache, ignore_errors=True)
        stores = (word for store in self.stores for word in ("--store", store))
        paths = (word for dataset in self.members for path in dataset.paths for word in ("--path", path.path))
        options = (
            "--cache-dir",
            str(self.cache),
            "--cache-size",
            "20G",
            "--trusted-public-keys",
            datasets.public_key(),
            "--trusted-index-keys",
            datasets.public_key(),
        )
        frontend = ("--frontend", self.frontend)
        command = (sys.executable, "-m", self.module, "mount", "--foreground", *frontend, *stores, *paths, *options)
        with mount_of((*command, self.mountpoint), self.mountpoint, log=self.log, environment=self._environment()) as (
            process,
            start_s,
        ):
            yield Shown(self.mountpoint / self.members[0].top.base_name, process.pid, start_s)

    def forget(self) -> None:
        """Empty the cache, but for what was learned."""
        for place in self.cache.iterdir():
            if place.is_file():
                place.unlink()
            elif place.name != "profile":
                shutil.rmtree(place)

    def status(self) -> dict[str, Any]:
        """Ask the running daemon for its numbers."""
        command = (sys.executable, "-m", "narfs", "status", "--json", self.mountpoint)
        done = subprocess.run(command, env=self._environment(), capture_output=True, check=True)
        told: list[dict[str, Any]] = json.loads(done.stdout)
        return told[0]

    def _environment(self) -> dict[str, str]:
        home = self.work / "home"
        home.mkdir(exist_ok=True)
        ours = {"HOME": home, "NIX_CONF_DIR": home}
        ours |= {f"XDG_{name}": home for name in ("RUNTIME_DIR", "CONFIG_HOME", "STATE_HOME")}
        return os.environ | {name: str(value) for name, value in ours.items()}


def file_lake(dataset: Dataset, compression: str) -> str:
    """Name a dataset's lake as a folder."""
    return f"file://{dataset.lake(compression)}"


@contextmanager
def served(base: Path, folders: Mapping[str, Path]) -> Iterator[int]:
    """Serve folders by these names from one nginx; yields its port."""
    root = base / "root"
    root.mkdir(parents=True)
    for name, folder in folders.items():
        (root / name).symlink_to(folder)
    with nginx(root, base / "nginx") as port:
        yield port


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder on a real disk that is gone afterwards; what mounts and caches need must not lie on a tmpfs."""
    with tempfile.TemporaryDirectory(prefix="narfs-bench-", dir="/var/tmp") as folder:
        yield Path(folder)
