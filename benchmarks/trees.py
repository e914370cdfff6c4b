"""Made trees of fixed shape. Contents are cut from the closure of B1: they compress as real binaries and texts do."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from benchmarks.closure import closure
from benchmarks.datasets import Dataset, dataset, files_below

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_POOL_BYTES = 128 << 20
_LITTLE_BYTES = 16 << 20
"""What is no larger is cut from the machine's own Python, for which nothing has to be downloaded."""
_FILES_IN_A_DIRECTORY = 48


def many_files(files: int, *, largest_bytes: int, paths: int = 1) -> Dataset:
    """Make ``paths`` store paths of so many small files each, 48 to a directory, sizes log-uniform from 64 bytes up."""

    def fill(folder: Path) -> Mapping[str, tuple[str, ...]]:
        pool = _pool(paths * files * largest_bytes)
        names = [f"many-{number}" for number in range(paths)]
        for name in names:
            _fill_many(folder / name, files, largest_bytes, pool, random.Random(name))  # noqa: S311 - repeatable
        return dict.fromkeys(names, ())

    return dataset(f"many-{paths}x{files}-{largest_bytes}", fill)


def many_paths(paths: int, *, smallest_bytes: int, largest_bytes: int) -> Dataset:
    """Make a closure of so many small store paths, 1 to 24 files each, that each refer to up to three of the others.

    Sizes of paths are log-uniform; the last one refers to all.
    """

    def fill(folder: Path) -> Mapping[str, tuple[str, ...]]:
        pool, chance = _pool(paths * largest_bytes), random.Random("paths")  # noqa: S311 - repeatable
        members: dict[str, tuple[str, ...]] = {}
        for number in range(paths - 1):
            size = int(smallest_bytes * (largest_bytes / smallest_bytes) ** chance.random())
            (folder / f"small-{number}").mkdir()
            for file in range(files := chance.randint(1, 24)):
                start = chance.randrange(len(pool) - size)
                (folder / f"small-{number}/file-{file:02}.data").write_bytes(pool[start : start + size // files])
            members[f"small-{number}"] = tuple(chance.sample(list(members), min(3, number)))
        (folder / "all").write_text("".join(f"{name}\n" for name in members), encoding="ascii")
        return members | {"all": tuple(members)}

    return dataset(f"paths-{paths}x{smallest_bytes}-{largest_bytes}", fill)


def deep_closure(layers: int, *, paths: int, entries: int) -> Dataset:
    """Make a closure of ``layers`` with ``paths`` store paths each, of so many small files; the last refers to a layer.

    Each path refers to three of the layer before; so who walks the closure learns one layer from the other.
    """

    def fill(folder: Path) -> Mapping[str, tuple[str, ...]]:
        pool, members, below = _pool(layers * paths * entries * 2048), dict[str, tuple[str, ...]](), tuple[str, ...]()
        for layer in range(layers):
            names = [f"layer-{layer}-{number}" for number in range(paths)]
            for number, name in enumerate(names):
                _fill_many(folder / name, entries, 2048, pool, random.Random(name))  # noqa: S311 - repeatable
                members[name] = tuple(sorted({below[(number + step) % paths] for step in range(3)})) if below else ()
            below = tuple(names)
        (folder / "top").write_text("".join(f"{name}\n" for name in below), encoding="ascii")
        return members | {"top": below}

    return dataset(f"deep-{layers}x{paths}x{entries}", fill)


def one_file(size: int) -> Dataset:
    """Make a store path with one large file in a directory."""

    def fill(folder: Path) -> Mapping[str, tuple[str, ...]]:
        (folder / "large").mkdir()
        with (folder / "large/file").open("wb") as file:
            left, pool = size, _pool(size)
            while left > 0:
                left -= file.write(pool[:left])
        return {"large": ()}

    return dataset(f"large-{size}", fill)


def _fill_many(tree: Path, files: int, largest_bytes: int, pool: bytes, chance: random.Random) -> None:
    octaves = largest_bytes.bit_length() - 7  # doublings from 64 to the largest
    for number in range(files):
        group, place = divmod(number, _FILES_IN_A_DIRECTORY)
        folder = tree / f"share-{group // 32:03}" / f"group-{group:05}"
        if place == 0:
            folder.mkdir(parents=True)
        start = chance.randrange(len(pool) - largest_bytes)
        size = int(64 * 2 ** chance.uniform(0, octaves))
        (folder / f"file-{place:02}.data").write_bytes(pool[start : start + size])


def _pool(most_bytes: int) -> bytes:
    """Give what contents are cut from, of which that many are wanted at most."""
    tree = closure(quick=most_bytes <= _LITTLE_BYTES).store / "nix/store"
    pool = bytearray()
    for file in files_below(tree):
        pool += (tree / file).read_bytes()
        if len(pool) >= _POOL_BYTES:
            break
    return bytes(pool)
