"""What is done to a tree. Lists of paths are made from the unpacked tree beforehand, so no timing holds a walk."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_READ_BYTES = 1 << 20


def find_ls(tree: Path) -> None:
    """List everything with attributes, as a person would."""
    subprocess.run(("find", tree, "-ls"), check=True, stdout=subprocess.DEVNULL)


def spread(items: Sequence[str], count: int) -> list[str]:
    """Choose ``count`` items evenly."""
    return [items[index * len(items) // count] for index in range(min(count, len(items)))]


def absent_names(files: Iterable[str]) -> list[str]:
    """Give a name beside each file that is not there, as a search through library paths asks for."""
    return [f"{file}.absent" for file in files]


def stat_each(tree: Path, files: Iterable[str]) -> None:
    """Stat files by absolute path; an absent one is as good."""
    prefix = f"{tree}/"
    for file in files:
        with suppress(FileNotFoundError):
            os.lstat(prefix + file)


def read_each(tree: Path, files: Iterable[str]) -> int:
    """Open, read and close files one after the other; gives the bytes read."""
    prefix, total = f"{tree}/", 0
    for file in files:
        descriptor = os.open(prefix + file, os.O_RDONLY)
        while data := os.read(descriptor, _READ_BYTES):
            total += len(data)
        os.close(descriptor)
    return total


def read_large(file: Path, readers: int) -> None:
    """Read one file from beginning to end, ``readers`` times at once, without looking at the bytes."""
    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(_read_through, [file] * readers))


def _read_through(file: Path) -> None:
    buffer = bytearray(_READ_BYTES)
    with file.open("rb", buffering=0) as opened:
        while opened.readinto(buffer):
            pass
