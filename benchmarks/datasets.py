"""Trees, the Nix stores that hold them and the lakes real Nix makes of these; kept from run to run.

Everything is below ``$XDG_CACHE_HOME/narfs-bench``: a dataset is made once, in a temporary folder that is renamed when
complete. The unpacked store is also what ext4 serves and what squashfs and the bare file system are made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import layouts, nix
from benchmarks.harness import log
from benchmarks.nix import Member
from narfs.formats.signature import SecretKey
from narfs.formats.store_path import StorePath, make_source_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Fill = Callable[[Path], Mapping[str, tuple[str, ...]]]
    """Makes trees in a folder; gives each one's name and the names it refers to, references first."""


def kept() -> Path:
    """Folder of all that is made once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "narfs-bench"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Store paths in a Nix store of their own; the last member is the one that refers to the others."""

    folder: Path
    members: tuple[Member, ...]

    @property
    def store(self) -> Path:
        """Root of the Nix store that has the members."""
        return self.folder / "store"

    @property
    def top(self) -> StorePath:
        """The path to ask for."""
        return self.members[-1].path

    @property
    def paths(self) -> tuple[StorePath, ...]:
        """All store paths."""
        return tuple(member.path for member in self.members)

    @property
    def tree(self) -> Path:
        """The top path, unpacked on disk."""
        return nix.in_store(self.store, self.top)

    @property
    def nar_bytes(self) -> int:
        """Size of all NARs together."""
        return sum(member.nar_size for member in self.members)

    def lake(self, layout: str) -> Path:
        """Give the folder of a lake; made on first use.

        ``layout`` is a compression (what ``nix copy`` writes), ``sealed`` (what ``narfs seal --to`` writes) or
        ``frames`` (independent zstd frames of 16 MiB, as Nix ≥ 2.35 writes them).
        """
        target = self.folder / f"lake-{layout}"
        if not target.exists():
            log(f"a lake of {self.folder.name}, {layout} (once; xz takes minutes)")
            with made(target) as folder:
                if layout == "sealed":
                    layouts.seal(self.lake("none"), folder, self.paths, secret_key_file(), public_key())
                elif layout == "frames":
                    layouts.frame(self.lake("none"), folder)
                else:
                    url = f"file://{folder}?compression={layout}&secret-key={secret_key_file()}"
                    nix.copy(nix.store_url(self.store), url, self.paths, _home())
        return target

    def blob_bytes(self, layout: str) -> int:
        """Size of all compressed NARs in a lake together."""
        return sum(blob.stat().st_size for blob in (self.lake(layout) / "nar").iterdir())

    def squashfs(self) -> Path:
        """Give an image of the top path's tree, zstd; made on first use."""
        target = self.folder / "tree.squashfs"
        if not target.exists():
            log(f"mksquashfs of {self.folder.name} (once)")
            partial = target.with_suffix(".partial")
            options = ("-comp", "zstd", "-Xcompression-level", "3", "-no-progress", "-quiet", "-noappend")
            subprocess.run(("mksquashfs", self.tree, partial, *options), check=True, stdout=subprocess.DEVNULL)
            partial.rename(target)
        return target


def dataset(name: str, fill: Fill) -> Dataset:
    """Open a dataset, or make it."""
    folder = kept() / name
    if not folder.exists():
        log(f"making dataset {name} (once)")
        with made(folder) as partial:
            _make(partial, fill)
    facts = json.loads((folder / "members.json").read_text(encoding="utf-8"))
    return Dataset(folder, tuple(_member(fact) for fact in facts))


def _make(folder: Path, fill: Fill) -> None:
    trees, store = folder / "trees", folder / "store"
    trees.mkdir()
    (store / "nix/store").mkdir(parents=True)
    members: dict[str, Member] = {}
    for name, references in fill(trees).items():
        digest, size = _nar_facts(trees / name)
        refers = tuple(sorted(members[reference].path for reference in references))
        path = make_source_path(name, digest, refers)
        (trees / name).rename(nix.in_store(store, path))
        members[name] = Member(path, digest.hex(), size, refers)
    nix.register(store, members.values(), _home())
    trees.rmdir()
    facts = [
        [member.path.base_name, member.nar_hash_hex, member.nar_size, [path.base_name for path in member.references]]
        for member in members.values()
    ]
    (folder / "members.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _member(fact: tuple[str, str, int, list[str]]) -> Member:
    path, nar_hash, size, references = fact
    return Member(StorePath.parse(path), nar_hash, size, tuple(map(StorePath.parse, references)))


def _nar_facts(tree: Path) -> tuple[bytes, int]:
    digest, size = hashlib.sha256(), 0
    with subprocess.Popen(("nix-store", "--dump", tree), stdout=subprocess.PIPE) as dump:
        assert dump.stdout is not None  # noqa: S101 - a pipe was asked for
        while piece := dump.stdout.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    if dump.returncode:
        raise RuntimeError(f"nix-store --dump {tree} failed")
    return digest.digest(), size


class made:  # noqa: N801 - used like a function, in a with statement
    """A folder, or whatever the block puts in its place, that appears under its name when complete or not at all."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target.with_name(f".{target.name}.{os.getpid()}")

    def __enter__(self) -> Path:
        self._partial.mkdir(parents=True)
        return self._partial

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._partial.rename(self._target)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)


def _home() -> Path:
    return kept() / "nix-home"


def secret_key_file() -> Path:
    """Give the file of the key that signs the lakes; made on first use."""
    file = kept() / "signing.secret"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(SecretKey.generate("narfs-bench-1").to_text(), encoding="ascii")
    return file


def public_key() -> str:
    """Give the key that signed the lakes."""
    return str(SecretKey.parse(secret_key_file().read_text(encoding="ascii")).public)


def files_below(tree: Path) -> Iterator[str]:
    """List regular files, relative and sorted."""
    for folder, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(tree))
