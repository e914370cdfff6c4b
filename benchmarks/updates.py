"""A new version of a closure, made by script as an update low in a package set makes it.

Nix builds again whatever depends on something that changed, and the new names of references are written into what it
builds. Debian's packages, which our closures are made of, hold no names of store paths; here a place in each program
and library of a rebuilt package stands for one.
"""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from benchmarks.datasets import Dataset, dataset, files_below

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHANGED_PACKAGES = 10
"""One of so many changes upstream, by a hash of its name; at least one does."""
_CHANGED_FILES = 4
"""Of its files one of so many; each gets something new in its middle, a program or library at its end."""
_NEW_BYTES = 1024
_NAME_BYTES = 32
_ELF = b"\x7fELF"


def new_version(old: Dataset) -> Dataset:
    """Open version 2 of a closure, or make it."""

    def fill(trees: Path) -> Mapping[str, tuple[str, ...]]:
        references = {
            member.path.name: tuple(sorted(other.name for other in member.references)) for member in old.members
        }
        changed = {name for name in references if _chosen(name, _CHANGED_PACKAGES)} or {next(iter(references))}
        rebuilt = set(changed)
        for name, others in references.items():  # references come first
            if rebuilt.intersection(others):
                rebuilt.add(name)
        for member in old.members:
            name, source = member.path.name, old.store / "nix/store" / member.path.base_name
            shutil.copytree(source, trees / name, symlinks=True)
            if name in changed:
                _change(trees / name)
            if name in rebuilt:
                _rename_references(trees / name)
        return references

    return dataset(f"{old.folder.name}-2", fill)


def _chosen(name: str, one_of: int) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % one_of == 0


def _change(tree: Path) -> None:
    for name in files_below(tree):
        if _chosen(name, _CHANGED_FILES):
            file = tree / name
            contents = file.read_bytes()
            # After a line, where Python takes it for a comment; programs and libraries have to go on working.
            at = len(contents) if contents.startswith(_ELF) else contents.find(b"\n", len(contents) // 2) + 1
            file.write_bytes(contents[:at] + b"#" * (_NEW_BYTES - 1) + b"\n" + contents[at:])


def _rename_references(tree: Path) -> None:
    for name in files_below(tree):
        file = tree / name
        contents = file.read_bytes()
        if contents.startswith(_ELF):
            file.write_bytes(contents + hashlib.sha256(name.encode()).hexdigest()[:_NAME_BYTES].encode())
