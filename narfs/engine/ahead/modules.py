"""The modules that a Python module imports: found where modules were read before, and brought with theirs.

Python asks for one module after the other, each a round trip away. Where it looks nobody tells us; but whatever was
read from a package shows where the packages are, as far as they lie beside it.

While a module is still waited for, its name says something already: with ``ssl.py`` comes ``_ssl``, if there is one,
the part of it that is not written in Python; and with the ``__init__.py`` of a package the files behind it, for it is
read to get at one of them, or imports them. So a module with a library costs two round trips, and not four.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from narfs.engine.ahead.bringing import Want, bring
from narfs.formats.listing import Kind
from narfs.formats.script import python_imports
from narfs.offsets import NarSpan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from narfs.engine.ahead.bringing import Allowance
    from narfs.engine.ahead.libraries import Libraries, Start
    from narfs.engine.ahead.sight import Place
    from narfs.formats.script import Import

SOURCE_BYTES: Final = 256 * 1024
"""A longer module is data."""

_MOST_MODULES: Final = 4096
"""Of one View."""
_MOST_REMEMBERED: Final = 1 << 14
"""Imports that were looked for."""
_AT_ONCE: Final = 128
"""Names that are looked for before others get their turn: 3 ms."""
_MOST_FORMS: Final = 16
"""Files of one module that are looked at: for each Python that can load it, maybe."""
_MOST_ROOTS: Final = 16
"""Directories in which packages were seen."""
_NEAR_BYTES: Final = 192 * 1024
"""Of a package, from its ``__init__.py`` on, brought with it: three frames of a sealed blob, 45 KiB packed."""
_MOST_NEAR: Final = 256
"""Files of a package that are looked at: 1 ms."""
_PACKAGE: Final = b"__init__"
_INIT: Final = _PACKAGE + b".py"

_LOADED_BEFORE: Final = frozenset(
    b"_collections_abc _sitebuiltins abc codecs genericpath importlib io os posixpath runpy site stat zipimport".split()
)
"""What Python has loaded before it reads the first module of a program; since 3.11 it has them in itself."""


class Modules:
    """Of one View, each brought once."""

    def __init__(self, libraries: Libraries, allowance: Allowance, start: Start) -> None:
        self._libraries = libraries
        self._allowance = allowance
        self._start = start
        self._met: set[tuple[bytes, int]] = set()
        self._roots: dict[tuple[bytes, int], Place] = {}
        self._looked_for: set[int] = set()
        """In all roots, by hash, for names may be long: most modules import the same few."""

    async def follow(self, module: Place, source: bytes) -> None:
        """Bring what a module imports that was just read; not again what was brought before."""
        self._meet(module)
        self._note_root(module.parent)
        await self._bring_imports(module, python_imports(source))

    def expect(self, module: Place) -> None:
        """Bring what mostly comes with a module, compiled or not, that somebody waits for; it cannot be read yet."""
        self._note_root(_folder(module))
        self._bring_accelerator(module)
        if _stem(module) == _PACKAGE:
            self._start(self._bring_near, module)

    async def _bring_near(self, init: Place) -> None:
        span = init.span
        near = (init._replace(node=child) for child in init.listing.children(init.parent.node)[:_MOST_NEAR])
        for file in near:
            if file.described.kind is Kind.REGULAR and span.end < file.span.end <= span.start + _NEAR_BYTES:
                span = NarSpan(span.start, file.span.end)
        await bring([Want(init.accessor, span)], self._allowance, at_once=True)

    def _bring_accelerator(self, module: Place) -> None:
        name = _stem(module)
        if name == _PACKAGE:
            name = module.listing.name(_folder(module).node)
        for root in list(self._roots.values()):
            for found in _module(root, (b"_" + name,))[0]:
                if self._meet(found):
                    self._start(self._bring, found)

    async def _bring_imports(self, module: Place, imports: Iterable[Import]) -> None:
        names = 0
        for imported in imports:
            names += 1 + len(imported.names)
            if names > _AT_ONCE:
                names = 0
                await trio.lowlevel.checkpoint()
            for found in self._find(imported, module.parent):
                if self._meet(found):
                    self._start(self._bring, found)

    async def _bring(self, module: Place) -> None:
        span = module.span
        name = module.listing.name(module.node)
        if not name.endswith(b".py"):
            self._libraries.bring_soon(module)
            return
        if span.length > SOURCE_BYTES:
            return
        self._bring_accelerator(module)
        brought = await bring([Want(module.accessor, span)], self._allowance, at_once=True)
        if brought.stopped_by is None and not brought.failed:
            source = await module.accessor.look(span.start, span.length)
            # The others when the module is really read: what a program may do without, it mostly does without.
            await self._bring_imports(module, (each for each in python_imports(source) if each.sure))

    def _meet(self, module: Place) -> bool:
        key = module.accessor.key, module.node
        if key in self._met or len(self._met) >= _MOST_MODULES:
            return False
        self._met.add(key)
        return module.described.size > 0

    def _note_root(self, folder: Place) -> None:
        """Note where the package of a directory lies."""
        while folder.node and folder.child(_INIT) is not None:
            folder = folder.parent
        key = folder.accessor.key, folder.node
        if key in self._roots or len(self._roots) >= _MOST_ROOTS:
            return
        self._roots[key] = folder
        self._looked_for.clear()
        if (extensions := folder.child(b"lib-dynload")) is not None:
            self._roots[extensions.accessor.key, extensions.node] = extensions

    def _find(self, imported: Import, folder: Place) -> Iterator[Place]:
        """Give the files that are read for an import: of packages on the way, of the module, of modules in it."""
        if not imported.level:
            key = hash((imported.module, imported.names))
            if imported.module[0] in _LOADED_BEFORE or key in self._looked_for:
                return
            if len(self._looked_for) >= _MOST_REMEMBERED:
                self._looked_for.clear()
            self._looked_for.add(key)
        roots = list(self._roots.values())
        if imported.level:
            for _ in range(imported.level - 1):
                folder = folder.parent
            roots = [folder]
        for root in roots:
            files, package = _module(root, imported.module)
            if package is not None:
                for name in imported.names:
                    files += _module(package, (name,))[0]
            if files:
                yield from files
                return


def _stem(module: Place) -> bytes:
    return module.listing.name(module.node).partition(b".")[0]


def _folder(module: Place) -> Place:
    """Give the directory of a module; what is compiled lies one below."""
    folder = module.parent
    return folder.parent if folder.listing.name(folder.node) == b"__pycache__" else folder


def _module(package: Place, names: Sequence[bytes]) -> tuple[list[Place], Place | None]:
    """Find a module in a package: what is read for it, and where modules in it would be, if it is a package itself."""
    files: list[Place] = []
    for name in names:
        inside = package.child(name)
        if inside is None or inside.listing.kind(inside.node) is not Kind.DIRECTORY:
            file = _extension(package, name) or package.child(name + b".py")
            return [*files, *_regular(file)], None
        files += _regular(inside.child(_INIT))
        package = inside
    return files, package


def _extension(package: Place, name: bytes) -> Place | None:
    """Find ``name.so``, or ``name.cpython-311-x86_64-linux-gnu.so``."""
    listing = package.listing
    first = listing.position(package.node, name + b".")
    for child in listing.children(package.node)[first : first + _MOST_FORMS]:
        found = listing.name(child)
        if not found.startswith(name + b"."):
            return None
        if found.endswith(b".so"):
            return package._replace(node=child)
    return None


def _regular(place: Place | None) -> list[Place]:
    return [] if place is None or place.listing.kind(place.node) is not Kind.REGULAR else [place]
