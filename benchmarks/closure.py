"""The closure of B1: a Debian metapackage with its dependencies, one store path per package, nothing added.

References are Debian's dependencies (``debian``). python3 alone is too small for B1's 150 MB of NARs, so it is
python3-full, the closest larger package of the same; the program uses nothing but python3's part. A quick look takes
the machine's own Python (``own_python``), for which nothing has to be downloaded.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING

from benchmarks import debian, own_python
from benchmarks.datasets import Dataset, dataset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGE = "python3-full"
CODE = "import json, ssl, sqlite3, asyncio, email, http.client"


@cache
def closure(*, quick: bool = False) -> Dataset:
    """Open the closure; the first time it is downloaded with apt-get."""
    if quick:
        return dataset("closure-own-python", own_python.fill)
    return dataset(f"closure-{PACKAGE}", _fill)


def _fill(trees: Path) -> Mapping[str, tuple[str, ...]]:
    references = debian.with_dependencies(PACKAGE)
    for name, deb in debian.download(references).items():
        (trees / name).mkdir()
        subprocess.run(("dpkg-deb", "-x", deb, trees / name), check=True)
    return references


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


def program(dataset: Dataset) -> Program:
    """Find the program's parts in a closure; its library path has the folders it maps from, as a RUNPATH would."""
    store = dataset.store / "nix/store"
    note = dataset.folder / "program.json"
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
