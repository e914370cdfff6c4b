"""The house plan of ``narfs/__init__.py``, held by a test: who may import whom, and who may touch the outside.

A failure here means that plan and house differ. Either the import is wrong, or the plan has to be changed first.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(__file__).parent.parent / "narfs"

ROOMS_BELOW = {
    "errors": set(),
    "offsets": set(),
    "privileges": set(),
    "addresses": set(),
    "seccomp": set(),
    "formats": {"errors", "offsets"},
    "lake": {"formats", "errors", "offsets"},
    "cache": {"formats", "errors", "offsets"},
    "engine": {"privileges", "seccomp", "lake", "cache", "formats", "errors", "offsets"},
    "publish": {"engine", "lake", "cache", "formats", "errors", "offsets"},
    "mount": {"addresses", "engine", "formats", "errors", "offsets"},
    "daemon": {
        "privileges",
        "addresses",
        "mount",
        "publish",
        "engine",
        "lake",
        "cache",
        "formats",
        "errors",
        "offsets",
    },
    "cli": {"daemon", "mount", "publish", "engine", "lake", "cache", "formats", "errors", "offsets"},
}

OUTSIDE = {
    # package: the modules that may import it
    "pyfuse3": {"mount/fuse/"},
    "httpx": {"lake/through.py"},
    "h11": {"lake/direct.py"},
    "obstore": {"lake/s3"},
    "sqlite3": {"cache/catalog"},
    "zstandard": {"formats/", "lake/"},
    "lz4": {"formats/"},
    "brotli": {"formats/", "lake/"},
    "lzma": {"formats/"},
    "bz2": {"formats/"},
    "zlib": {"formats/", "lake/", "cache/"},
    "nacl": {"formats/signature.py"},
    "lru": {"lake/", "cache/", "engine/", "mount/"},
    "click": {"cli/"},
    "rich": {"cli/"},
    "trio": {"lake/", "cache/", "engine/", "publish/", "mount/", "daemon/", "cli/"},
    "errno": {"mount/", "cache/", "lake/file.py", "daemon/"},
    "ctypes": {"cache/", "daemon/", "privileges.py", "seccomp.py", "addresses.py"},
    "subprocess": {"engine/", "publish/", "mount/", "daemon/", "cli/"},
    "threading": {"addresses.py"},
    "asyncio": set(),
}

PURE_ROOMS = {"errors", "offsets", "formats"}
NOT_PURE = {
    "os",
    "io",
    "socket",
    "pathlib",
    "time",
    "datetime",
    "random",
    "tempfile",
    "logging",
    "subprocess",
    "asyncio",
}


def modules() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(HOUSE).parts[0].removesuffix(".py")


def imported(module: Path) -> Iterator[str]:
    """Give the dotted names that a module imports, those for type checking as well: they are arrows too."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            yield node.module
            if node.module == "narfs":
                yield from (f"narfs.{alias.name}" for alias in node.names)


def name_of(module: Path) -> str:
    return str(module.relative_to(HOUSE))


def test_every_room_of_the_house_is_on_the_plan() -> None:
    rooms = {room_of(module) for module in modules()} - {"__init__", "__main__"}
    assert rooms == set(ROOMS_BELOW)


@pytest.mark.parametrize("module", modules(), ids=name_of)
def test_imports_point_down_only(module: Path) -> None:
    room = room_of(module)
    if room in {"__init__", "__main__"}:
        return
    for name in imported(module):
        if name.startswith("narfs."):
            target = name.split(".")[1]
            assert target in ROOMS_BELOW[room] | {room, "__version__"}, f"{name_of(module)} imports {name}"


@pytest.mark.parametrize("module", modules(), ids=name_of)
def test_the_outside_is_touched_where_the_plan_says(module: Path) -> None:
    for name in imported(module):
        package = name.split(".")[0]
        if package in OUTSIDE:
            allowed = OUTSIDE[package]
            assert any(name_of(module).startswith(place) for place in allowed), f"{name_of(module)} imports {name}"
        elif package != "narfs":
            assert package in sys.stdlib_module_names, f"{name_of(module)} imports {name}, which the plan does not know"


@pytest.mark.parametrize("module", [module for module in modules() if room_of(module) in PURE_ROOMS], ids=name_of)
def test_formats_do_no_io_and_have_no_clock(module: Path) -> None:
    assert not {name.split(".")[0] for name in imported(module)} & NOT_PURE


def test_there_are_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for module in modules():
        parts = ("narfs", *module.relative_to(HOUSE).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        graph[name] = {target for target in runtime_imports(module) if target != name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def runtime_imports(module: Path) -> set[str]:
    """Give the narfs modules that are really loaded with this one: not those for type checking."""
    tree = ast.parse(module.read_bytes())
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("narfs."):
            assert node.module is not None
            found.add(node.module)
    return found
