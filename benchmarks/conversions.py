"""What a closure has to be turned into before others than Nix and narfs can show it; made once and kept."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from benchmarks.datasets import kept, made
from benchmarks.harness import log

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.datasets import Dataset

RATARMOUNT = kept() / "ratarmount/bin/ratarmount"
"""From PyPI, in an environment of its own: scripts/setup --bench makes it."""

SQUASHFS, TAR, TAR_INDEX, CASYNC_INDEX, CASYNC_CHUNKS = (
    "closure.squashfs",
    "closure.tar",
    "closure.tar.index",
    "closure.caidx",
    "chunks.castr",
)

_SQUASHFS_OPTIONS = ("-comp", "zstd", "-no-progress", "-quiet", "-noappend")
_CASYNC_OPTIONS = ("--with=fuse", "--compression=zstd", "--chunk-size=262144")
"""Chunks of 64 KiB (its default), 256 KiB and 1 MiB on the average: B1 at 10 ms took 24, 8 and 16 s."""


def tree(dataset: Dataset) -> Path:
    """Give the folder that has the store paths unpacked."""
    return dataset.store / "nix/store"


def squashfs(dataset: Dataset) -> Path:
    """Give a folder with a squashfs image."""
    return _converted(dataset, "squashfs", ("mksquashfs", tree(dataset), SQUASHFS, *_SQUASHFS_OPTIONS))


def tar(dataset: Dataset) -> Path:
    """Give a folder with a tar file and its index."""
    pack = ("tar", "-C", tree(dataset), "--sort=name", "-cf", TAR, ".")
    return _converted(dataset, "tar", pack, (RATARMOUNT, "--no-mount", "--index-file", TAR_INDEX, TAR))


def casync(dataset: Dataset) -> Path:
    """Give a folder with a chunk store and the index of an archive."""
    make = ("casync", "make", *_CASYNC_OPTIONS, f"--store={CASYNC_CHUNKS}", CASYNC_INDEX, tree(dataset))
    return _converted(dataset, "casync", make)


def _converted(dataset: Dataset, name: str, *commands: tuple[str | Path, ...]) -> Path:
    target = dataset.folder / f"as-{name}"
    if not target.exists():
        log(f"{dataset.folder.name} as {name} (once)")
        with made(target) as folder:
            for command in commands:
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return target
