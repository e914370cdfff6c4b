"""The machine's own Python as a closure of four paths, in the places where Debian's packages have theirs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEFT_OUT = (
    *("site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "lib2to3", "ensurepip", "config-*"),
    *("tkinter", "_tkinter*", "turtledemo", "pydoc_data", "distutils", "unittest", "*.a", "libpython*"),
)
"""What others put there, and what no benchmark imports."""


def fill(trees: Path) -> Mapping[str, tuple[str, ...]]:
    """Copy it; gives what refers to what."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    libc, minimal, modules, rest = "libc6", f"{version}-minimal", f"lib{version}-minimal", f"lib{version}-stdlib"
    (trees / minimal / "usr/bin").mkdir(parents=True)
    shutil.copy(program, trees / minimal / "usr/bin" / version)
    ignored = shutil.ignore_patterns(*_LEFT_OUT)
    shutil.copytree(library, trees / modules / "usr/lib" / version, symlinks=True, ignore=ignored)
    (trees / rest / "usr/lib").mkdir(parents=True)
    (trees / rest / "usr/lib/README").write_text("Its modules are in another path.\n", encoding="ascii")
    libraries = trees / libc / "lib/own-linux-gnu"
    libraries.mkdir(parents=True)
    extensions = [file for file in library.glob("lib-dynload/*.so") if not file.match("_tkinter*")]
    for file in _shared_libraries([program, *extensions]):
        shutil.copy(file, libraries / file.name)
    # No program maps symbols, and a Python that somebody compiled is half of them: 64 MB of NARs, and 33 without.
    objects = [*libraries.iterdir(), *trees.glob(f"{modules}/**/*.so")]
    subprocess.run(("strip", "--strip-unneeded", *objects), check=True)
    return {libc: (), minimal: (libc,), modules: (libc,), rest: (minimal, modules)}


def _shared_libraries(files: list[Path]) -> set[Path]:
    """Ask the loader which libraries ``files`` need, all the way down, and itself."""
    listed = subprocess.run(("ldd", *files), capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"^\t(?:\S+ => )?(/\S+) ", listed, re.MULTILINE)}
