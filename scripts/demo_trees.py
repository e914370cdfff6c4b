"""Trees for scripts/demo: this machine's Python, shared libraries and programs, arranged as a Nix store has them.

A program in a Nix store names its dynamic loader by store path. The machine's own name the machine's, so copies are
given the other name here; nothing else about them changes.

usage: demo_trees.py libs|stdlib|tests|programs|python|hello DIRECTORY [STORE_PATH...]
       demo_trees.py source    where the standard library comes from, and diff's options for what was left behind
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = ("sh", "cat", "cksum", "env", "ls", "readlink", "sort", "uniq", "wc")
PYTHON = Path(sys.executable).resolve()
STDLIB = Path(sysconfig.get_path("stdlib"))
CACHES = "__pycache__"
NOT_STDLIB = ("site-packages", "dist-packages", "test", "config-*", CACHES, "_tkinter*")
"""What others put there, tests, what only building extensions needs, and what is made on the fly."""

PT_INTERP = 3

HELLO = """\
#!{programs}/bin/sh
# Every path is named in full, as in any Nix store: these names are the references.
export PATH={programs}/bin
echo "hello from $0"
echo "the root has only: $(ls -x /)"
exec {python}/bin/python3 - <<'PY'
import hashlib, json, pathlib, sys, zlib  # pure Python, extension modules, shared libraries
files = {{line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if line.count("/")}}
strangers = sorted(file for file in files if not file.startswith("/nix/store/"))
print(f"Python {{sys.version.split()[0]}} runs: {{len(files)}} files mapped, {{len(strangers)}} from outside the store")
sys.exit(bool(strangers))
PY
"""


def shared_libraries(files: list[Path]) -> dict[str, Path]:
    """Ask the loader which libraries ``files`` need, all the way down; by the names they are asked for."""
    listed = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return {name: Path(path) for name, path in re.findall(r"^\t(\S+) => (/\S+) ", listed, re.MULTILINE)}


def interpreter(program: bytes) -> tuple[int, str]:
    """Find the program header that names the dynamic loader, and the name."""
    if program[:6] != b"\x7fELF\2\1":
        sys.exit("the demo can only rearrange 64-bit little-endian programs")
    (headers,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    for header in range(headers, headers + size * count, size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", program, header)
        if kind == PT_INTERP:
            return header, program[offset : offset + length].rstrip(b"\0").decode()
    sys.exit("a statically linked program has no loader to replace")


def copy_program(source: Path, target: Path, libs: str) -> None:
    """Copy a program and let it name the loader in ``libs``: the new name is appended, its header points there."""
    program = source.read_bytes()
    header, loader = interpreter(program)
    name = f"{libs}/lib/{Path(loader).name}".encode() + b"\0"
    patched = bytearray(program + name)
    struct.pack_into("<Q", patched, header + 8, len(program))
    struct.pack_into("<QQ", patched, header + 32, len(name), len(name))
    target.write_bytes(patched)
    target.chmod(0o755)


def make_libs(tree: Path) -> None:
    """Copy the dynamic loader and all libraries that Python, its extension modules and PROGRAMS need."""
    extensions = sorted((STDLIB / "lib-dynload").glob("*.so"))
    programs = [found for name in PROGRAMS if (found := program_file(name))]
    wanted = shared_libraries([PYTHON, *programs, *(one for one in extensions if "_tkinter" not in one.name)])
    _, loader = interpreter(PYTHON.read_bytes())
    (tree / "lib").mkdir()
    for name, file in {Path(loader).name: Path(loader), **wanted}.items():
        shutil.copy(file, tree / "lib" / name)


def make_stdlib(tree: Path) -> None:
    """Copy the standard library as it is."""
    shutil.copytree(STDLIB, tree, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_STDLIB))


def make_tests(tree: Path) -> None:
    """Copy the standard library's tests, as far as the machine has them."""
    shutil.copytree(STDLIB / "test", tree, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CACHES))


def make_python(tree: Path, libs: str, stdlib: str, tests: str) -> None:
    """Copy the interpreter; its library and the tests are symlinks into other store paths."""
    for directory in ("bin", "lib"):
        (tree / directory).mkdir()
    copy_program(PYTHON, tree / "bin" / "python3", libs)
    (tree / "lib" / STDLIB.name).symlink_to(stdlib)
    (tree / "tests").symlink_to(tests)


def make_programs(tree: Path, libs: str) -> None:
    """Copy PROGRAMS, as far as the machine has them."""
    (tree / "bin").mkdir()
    for name in PROGRAMS:
        if file := program_file(name):
            copy_program(file, tree / "bin" / name, libs)


def program_file(name: str) -> Path | None:
    """Find a program's file behind all symlinks."""
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def make_hello(tree: Path, programs: str, python: str) -> None:
    """Write a script that only runs in a Nix store."""
    (tree / "bin").mkdir()
    (tree / "bin" / "hello").write_text(HELLO.format(programs=programs, python=python))
    (tree / "bin" / "hello").chmod(0o755)


def main() -> None:
    """Make one tree in a directory of its own name."""
    if sys.argv[1:] == ["source"]:
        print(STDLIB, *(f"--exclude={pattern}" for pattern in NOT_STDLIB), sep="\n")
        return
    kind, directory, *store_paths = sys.argv[1:]
    makers: dict[str, Callable[..., None]] = {
        "libs": make_libs,
        "stdlib": make_stdlib,
        "tests": make_tests,
        "python": make_python,
        "programs": make_programs,
        "hello": make_hello,
    }
    tree = Path(directory) / kind
    tree.mkdir(parents=True)
    makers[kind](tree, *store_paths)


if __name__ == "__main__":
    main()
