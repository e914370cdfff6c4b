"""The real Nix, on stores of our own: the machine's /nix is neither read nor made.

A store below ``root`` keeps /nix/store/X at root/nix/store/X. State, configuration and caches of the nix program are
in a folder of the caller's; a fresh one is what a machine has that never asked a lake anything.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from narfs.formats.store_path import StorePath


@dataclass(frozen=True, slots=True)
class Member:
    """One store path of a dataset, as Nix registers it."""

    path: StorePath
    nar_hash_hex: str
    nar_size: int
    references: tuple[StorePath, ...]

    def registration(self) -> str:
        """Give what ``nix-store --load-db`` reads."""
        references = [reference.path for reference in self.references]
        return "\n".join([self.path.path, self.nar_hash_hex, str(self.nar_size), "", str(len(references)), *references])


def store_url(root: Path) -> str:
    """Name the store below a folder."""
    return f"local?root={root}"


def in_store(root: Path, path: StorePath) -> Path:
    """Where the store below ``root`` keeps a path on disk."""
    return root / "nix/store" / path.base_name


def environment(home: Path, *, trusted_public_key: str = "") -> dict[str, str]:
    """Prepare a folder as the home of a nix program; gives the environment to start it in."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "nix.conf").write_text(
        f"experimental-features = nix-command\ntrusted-public-keys = {trusted_public_key}\nsubstituters =\n",
        encoding="utf-8",
    )
    ours = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "NIX_CONF_DIR": home, "NIX_STATE_DIR": home / "state"}
    return {"PATH": os.environ["PATH"]} | {name: str(value) for name, value in ours.items()}


def register(root: Path, members: Iterable[Member], home: Path) -> None:
    """Make paths that lie in the store below ``root`` valid there."""
    text = "".join(member.registration() + "\n" for member in members)
    variables = environment(home) | {"NIX_REMOTE": store_url(root)}
    subprocess.run(("nix-store", "--load-db"), input=text, text=True, env=variables, check=True)


def newer(folder: Path) -> Path | None:
    """Give the program of the newer Nix that the tests use, made runnable in a new folder; None if there is none."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    usr = caches / "narfs-test/nix-2.26-trixie"
    if not usr.exists():
        return None
    folder.mkdir(parents=True)
    (folder / "usr").symlink_to(usr)
    (folder / "nix").symlink_to(Path(__file__).parents[1] / "tests/nix/on_newer_usr")
    return folder / "nix"


def programs(folder: Path) -> dict[str, str | Path]:
    """Name the programs that can do ``nix copy``, the newest last; ``folder`` is new, for those that need one."""
    newest = newer(folder)
    return {"nix 2.8 copy": "nix"} | ({"nix 2.26 copy": newest} if newest else {})


def copy(
    source: str,
    target: str,
    paths: Iterable[StorePath],
    home: Path,
    *,
    trusted_public_key: str = "",
    program: str | Path = "nix",
) -> None:
    """Run ``nix copy`` between two store URLs, closures included, signatures checked as everywhere."""
    command = [program, "copy", "--from", source, "--to", target, *(path.path for path in paths)]
    variables = environment(home, trusted_public_key=trusted_public_key)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nix copy failed: {done.stderr[-2000:]}")
