"""Packages of the machine's Debian, got with apt-get and kept.

What a package needs is what Depends and Pre-Depends say, of alternatives the first that exists. Debian allows cycles
(libc6 and libgcc-s1), Nix does not: the reference that would close one is left out.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.datasets import kept
from benchmarks.harness import log

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_APT_GET = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root")


def download(names: Collection[str]) -> dict[str, Path]:
    """Give the files of packages."""
    debs = kept() / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    log(f"downloading {len(names)} Debian packages")
    subprocess.run((*_APT_GET, "download", *names), cwd=debs, check=True)
    return {name: max(debs.glob(f"{name}_*.deb"), key=lambda file: file.stat().st_mtime) for name in names}


def download_source(name: str) -> Path:
    """Give the archive of a package's upstream source."""
    folder = kept() / f"source-{name}"
    if not (found := list(folder.glob("*.orig.tar.*"))):
        log(f"downloading the source of {name}")
        (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
        release = platform.freedesktop_os_release()["VERSION_CODENAME"]
        (folder / "sources.list").write_text(f"deb-src {_mirror()} {release} main\n", encoding="utf-8")
        ours = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": folder / "lists",
        }
        apt_get = (*_APT_GET, *(word for key, value in ours.items() for word in ("-o", f"{key}={value}")))
        subprocess.run((*apt_get, "update"), check=True)
        subprocess.run((*apt_get, "source", "--download-only", name), cwd=folder, check=True)
        found = list(folder.glob("*.orig.tar.*"))
    return found[0]


def _mirror() -> str:
    """Give the one that apt has this machine's Debian from."""
    main = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    command = ("apt-get", "indextargets", "--format", "$(REPO_URI)", *main)
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if not told:
        sys.exit("apt knows no mirror of Debian: this is another system, or apt-get update has not run")
    return told[0]


def with_dependencies(*packages: str) -> dict[str, tuple[str, ...]]:
    """Give the packages with all they depend on, each one's own dependencies before it.

    The walk is depth first; what is found while it is still being walked would close a cycle.
    """
    found: dict[str, tuple[str, ...]] = {}
    walking: set[str] = set()

    def walk(name: str) -> None:
        walking.add(name)
        wanted = dict.fromkeys(_depends(name))
        for other in wanted:
            if other not in walking:
                walk(other)
        found[name] = tuple(other for other in wanted if other in found)

    for package in packages:
        walk(package)
    return found


def _depends(package: str) -> list[str]:
    fields = _show(package)
    relations = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
    chosen = []
    for relation in filter(None, relations.split(", ")):
        alternatives = [re.split(r"[ (:]", alternative.strip())[0] for alternative in relation.split("|")]
        chosen += [name for name in alternatives if _show(name)][:1]
    return chosen


@cache
def _show(package: str) -> Mapping[str, str]:
    """Give a package's fields; none for a name that is only provided by others."""
    command = ("apt-cache", "show", "--no-all-versions", package)
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(re.findall(r"^([A-Za-z-]+): (.*)$", told, flags=re.MULTILINE))
