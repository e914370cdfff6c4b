"""The closure of B1: a Debian metapackage with its dependencies, one store path per package, nothing added.

References are what Depends and Pre-Depends say (of alternatives the first that exists). Debian allows cycles (libc6 and
libgcc-s1), Nix does not: the reference that would close one is left out. python3 alone is too small for B1's 150 MB of
NARs, so it is python3-full, the closest larger package of the same; the program uses nothing but python3's part.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING

from benchmarks.datasets import Dataset, dataset, kept
from benchmarks.harness import log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGE = "python3-full"
CODE = "import json, ssl, sqlite3, asyncio, email, http.client"


@cache
def closure() -> Dataset:
    """Open the closure; the first time it is downloaded with apt-get."""
    return dataset(f"closure-{PACKAGE}", _fill)


def _fill(trees: Path) -> Mapping[str, tuple[str, ...]]:
    references = _in_order(PACKAGE)
    debs = kept() / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    log(f"downloading {len(references)} Debian packages")
    subprocess.run(("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *references), cwd=debs, check=True)
    for name in references:
        deb = max(debs.glob(f"{name}_*.deb"), key=lambda file: file.stat().st_mtime)
        (trees / name).mkdir()
        subprocess.run(("dpkg-deb", "-x", deb, trees / name), check=True)
    return references


def _in_order(package: str) -> dict[str, tuple[str, ...]]:
    """Walk the dependencies depth first; what is found while it is still being walked would close a cycle."""
    found: dict[str, tuple[str, ...]] = {}
    walking: set[str] = set()

    def walk(name: str) -> None:
        walking.add(name)
        wanted = dict.fromkeys(_depends(name))
        for other in wanted:
            if other not in walking:
                walk(other)
        found[name] = tuple(other for other in wanted if other in found)

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


@dataclass(frozen=True, slots=True)
class Program:
    """B1's program below any folder that shows the closure: its loader, its libraries, nothing of the host's."""

    loader: str
    python: str
    home: str
    modules: str
    libraries: tuple[str, ...]

    def run(self, store: Path, code: str = CODE) -> str:
        """Run it to its end; gives what it printed."""
        path = ":".join(str(store / library) for library in self.libraries)
        command = (store / self.loader, "--library-path", path, store / self.python, "-s", "-S", "-c", code)
        variables = {
            "PYTHONHOME": str(store / self.home),
            "PYTHONPATH": f"{store / self.modules}:{store / self.modules / 'lib-dynload'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C",  # without a locale glibc opens none of the host's
            "PYTHONCOERCECLOCALE": "0",
        }
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the program failed: {done.stderr[-2000:]}")
        return done.stdout


def program() -> Program:
    """Find the program's parts in the closure; its library path has the folders it maps from, as a RUNPATH would."""
    store = closure().store / "nix/store"
    note = closure().folder / "program.json"
    if note.exists():
        facts = json.loads(note.read_text(encoding="utf-8"))
        return Program(**{**facts, "libraries": tuple(facts["libraries"])})
    # What is there: a library's symlink may point into another package.
    files = sorted(str(file.relative_to(store)) for file in store.rglob("*") if file.exists())
    libraries = _matching(files, r"/lib/[^/]+-linux-gnu[^/]*/lib[^/]+\.so\.[^/]+$")
    everything = {str(PurePath(file).parent) for file in libraries}
    parts = Program(
        loader=_matching(files, r"-libc6/.*/ld-linux[^/]*\.so\.\d$")[0],
        python=_matching(files, r"-python3\.\d+-minimal/usr/bin/python3\.\d+$")[0],
        home=_matching(files, r"-libpython3\.\d+-stdlib/usr/lib$")[0].removesuffix("/lib"),
        modules=_matching(files, r"-libpython3\.\d+-minimal/usr/lib/python3\.\d+$")[0],
        libraries=tuple(sorted(everything)),
    )
    maps = parts.run(store, f"{CODE}; print(open('/proc/self/maps').read())")
    mapped = {line.split(maxsplit=5)[5] for line in maps.splitlines() if " /" in line}
    strangers = [file for file in mapped if not file.startswith(str(store))]
    if strangers:
        raise RuntimeError(f"the program uses files of the host: {strangers}")
    used = {str(PurePath(file).parent.relative_to(store)) for file in mapped} & everything
    parts = replace(parts, libraries=tuple(sorted(used)))
    parts.run(store)
    note.write_text(json.dumps(asdict(parts), indent=1), encoding="utf-8")
    return parts


def _matching(files: list[str], pattern: str) -> list[str]:
    return [file for file in files if re.search(pattern, file)]
