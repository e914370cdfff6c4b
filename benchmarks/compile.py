"""compile: a C project's own build, with everything but its source out of a view, against the same on the disk.

The project is busybox: some hundred small C files with dozens of headers each, so there are more files to open for each
second of compiling than in most. Compiler, headers, libraries, make and shell are one store path, Debian's packages
unpacked into one tree; its /usr is that of a root directory, which the build runs in. Source, objects and /tmp are on
the disk in every case. All three are shown at the same time and take turns, each warm from a build that is not counted.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from benchmarks import debian
from benchmarks.comparison import EROFS, NARFS
from benchmarks.datasets import Dataset, dataset
from benchmarks.harness import Report, log
from benchmarks.sites import Disk, Narfs, file_lake, scratch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.harness import Plan
    from benchmarks.sites import Site

_PROJECT: Final = "busybox"
_PACKAGES: Final = (
    *("gcc", "make", "libc6-dev", "binutils", "dash"),
    *("bzip2", "coreutils", "diffutils", "findutils", "grep", "mawk", "sed"),
)
_MERGED: Final = ("bin", "lib", "lib64", "sbin")
"""What is a symlink into /usr in every Debian."""

_IN_ROOT: Final = """\
mount --bind "$1/usr" "$2/usr"
mount --bind "$3" "$2/build"
mount --rbind /dev "$2/dev"
mount -t proc proc "$2/proc"
exec chroot "$2" /bin/sh -euc "cd /build && $4"
"""


def run(plan: Plan) -> None:
    tools = _toolchain()
    title = f"compile: make of {_PROJECT}"
    with (
        Report("compile", title, plan, nar_bytes=tools.nar_bytes) as report,
        scratch() as work,
        ExitStack() as shown,
    ):
        disk = Disk(tools.tree)
        stores = (file_lake(tools, "zstd"),)
        sites: list[Site] = [
            disk,
            Narfs((tools,), stores, _folder(work, "tree"), NARFS),
            Narfs((tools,), stores, _folder(work, "erofs"), EROFS, frontend="erofs"),
        ]
        trees = {site.name: shown.enter_context(site.shown()).tree for site in sites}
        root = _root(work)
        source = _configured(tools.tree, root, work)
        for tree in trees.values():
            _build(tree, root, source, work)  # to make it warm
        for _ in plan.rounds():
            for name, tree in trees.items():
                wall_s, cpu_s = _build(tree, root, source, work)
                report.add(name, "make, warm", "s", wall_s)
                report.add(name, "processor, of make and its children", "s", cpu_s)
        for name, target in ((NARFS, None), (EROFS, 1.05)):
            report.ratio(name, disk.name, "make, warm", target=target)
            report.ratio(name, disk.name, "processor, of make and its children")


def _toolchain() -> Dataset:
    return dataset(f"toolchain-{_PROJECT}", _fill)


def _fill(trees: Path) -> Mapping[str, tuple[str, ...]]:
    tree = trees / "toolchain"
    for name in _MERGED:
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    for deb in debian.download(debian.with_dependencies(*_PACKAGES)).values():
        with subprocess.Popen(("dpkg-deb", "--fsys-tarfile", deb), stdout=subprocess.PIPE) as files:
            subprocess.run(("tar", "-xC", tree, "--keep-directory-symlink"), stdin=files.stdout, check=True)
    (tree / "usr/bin/awk").symlink_to("mawk")  # of the alternatives that packages choose when they are configured
    return {"toolchain": ()}


def _folder(work: Path, name: str) -> Path:
    (work / name).mkdir()
    return work / name


def _root(work: Path) -> Path:
    """Make the directory that builds have for their root."""
    root = _folder(work, "root")
    for name in ("usr", "build", "dev", "proc", "tmp"):
        (root / name).mkdir()
    for name in _MERGED:
        (root / name).symlink_to(f"usr/{name}")
    return root


def _configured(tree: Path, root: Path, work: Path) -> Path:
    """Unpack the source and let it configure itself, with every option off: that is what each build has to do."""
    source = _folder(work, "source")
    archive = debian.download_source(_PROJECT)
    subprocess.run(("tar", "-xf", archive, "-C", source, "--strip-components=1"), check=True)
    log(f"configuring {_PROJECT}")
    _in_root(tree, root, source, "make allnoconfig >configure.log 2>&1")
    return source


def _build(tree: Path, root: Path, source: Path, work: Path) -> tuple[float, float]:
    """Build a fresh copy; gives seconds, and seconds of processor."""
    build = work / "build"
    shutil.copytree(source, build, symlinks=True)
    os.sync()  # nobody is to wait for the copy
    before, start = _cpu_seconds(), time.perf_counter()
    _in_root(tree, root, build, f"make -j{os.cpu_count()} >make.log 2>&1")
    spent = time.perf_counter() - start, _cpu_seconds() - before
    (build / _PROJECT).stat()  # it was made
    shutil.rmtree(build)
    return spent


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _in_root(tree: Path, root: Path, build: Path, command: str) -> None:
    inside = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", _IN_ROOT, "sh")
    variables = {"PATH": "/usr/bin:/usr/sbin", "LC_ALL": "C", "PWD": "/"}
    subprocess.run((*inside, tree, root, build, command), env=variables, check=True)
