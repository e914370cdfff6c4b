"""What a program that starts will need is brought before it asks: libraries, interpreters, modules; out of its View."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.engine.ahead.bringing import Allowance
from narfs.engine.ahead.libraries import Libraries
from narfs.engine.ahead.mentions import Mentions
from narfs.engine.ahead.modules import Modules
from narfs.engine.ahead.sight import Place, Sight
from narfs.errors import Unavailable
from narfs.formats.listing import Kind
from narfs.formats.seal import index_name
from narfs.formats.signature import PublicKeys, SecretKey
from tests.support.elf import elf_file
from tests.support.faults import Fault, Stall
from tests.support.sealing import add_sealed
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from narfs.engine.store import Store
    from tests.engine.conftest import House
    from tests.support.lakes import Member
    from tests.support.server import Server

    Watching = Callable[..., AbstractAsyncContextManager["Watched"]]

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
CODE = random.Random(7).randbytes(600_000).replace(b"\0", b"\1")  # noqa: S311 - any code will do
DEADLINE_S = 20.0


def program(**needs: object) -> File:
    """Make an ELF file with code in the middle that nothing says anything of."""
    return File(elf_file(padding=400_000, **needs), executable=True)  # type: ignore[arg-type]  # passed on


class Watched:
    """A View of some members, and somebody who reads in it."""

    def __init__(self, store: Store, sight: Sight, mentions: Mentions) -> None:
        self.store = store
        self.sight = sight
        self.mentions = mentions

    async def place(self, member: Member, path: bytes) -> Place:
        found = await self.sight.walk(path, await self.sight.member(member.path.base_name.encode()))
        assert found is not None
        return found

    async def read(self, member: Member, path: bytes, length: int = 16_384) -> None:
        """Read the beginning of a file, as a mount does."""
        place = await self.place(member, path)
        data = await place.accessor.read(place.span.start, min(length, place.span.length))
        self.mentions.saw(member.path, place.node, data)

    async def waits(self, member: Member, path: bytes) -> None:
        """Wait for the beginning of a file, as a mount tells of it; it never comes."""
        self.mentions.awaits(member.path, (await self.place(member, path)).node)

    async def here(self, member: Member, path: bytes) -> bool:
        """Whether a whole file is in the cache, or on its way."""
        place = await self.place(member, path)
        try:
            await place.accessor.look(place.span.start, place.span.length)
        except Unavailable:
            return False
        return True

    async def comes(self, member: Member, path: bytes) -> None:
        with trio.fail_after(DEADLINE_S):
            while not await self.here(member, path):  # noqa: ASYNC110 - it is the cache's event, which tells nobody
                await trio.sleep(0.002)

    @property
    def ahead_bytes(self) -> int:
        return self.store.statistics().counters.ahead_fetched_bytes


@pytest.fixture
def watching(house: House, server: Server) -> Watching:
    @asynccontextmanager
    async def watching(*members: Member, allowance: int | None = None) -> AsyncIterator[Watched]:
        async with house.open(server.url, index_keys=KEYS) as store, trio.open_nursery() as nursery:
            sight = Sight([(member.path, await store.find(member.path)) for member in members])
            mentions = Mentions(sight, Allowance(allowance), store.means.counters)
            nursery.start_soon(mentions.run)
            yield Watched(store, sight, mentions)
            nursery.cancel_scope.cancel()

    return watching


async def settled(watched: Watched) -> None:
    """Wait until nothing more comes."""
    before = -1
    while before != watched.ahead_bytes or watched.store.means.governor.held_bytes:
        before = watched.ahead_bytes
        await trio.sleep(0.1)


async def test_a_program_brings_its_interpreter_and_libraries_and_theirs(house: House, watching: Watching) -> None:
    inner = add_sealed(house.lake, "inner", {b"lib": {b"libinner.so": program()}}, KEY)
    outer_tree: Tree = {
        b"lib": {
            b"libouter.so.1": Symlink(b"libouter.so.1.2"),
            b"libouter.so.1.2": program(needed=[b"libinner.so"], runpath=b"/nix/store/none:" + lib(inner)),
            b"unrelated.so": program(),
        }
    }
    outer = add_sealed(house.lake, "outer", outer_tree, KEY)
    libc = add_sealed(house.lake, "libc", {b"lib": {b"ld.so": program(), b"libc.so": program()}}, KEY)
    start = program(
        interpreter=lib(libc) + b"/ld.so",
        needed=[b"libouter.so.1", b"libc.so"],
        runpath=b"$ORIGIN/../lib:" + lib(outer),
    )
    top = add_sealed(house.lake, "top", {b"bin": {b"start": start}, b"lib": {}}, KEY)
    async with watching(inner, outer, libc, top) as watched:
        await watched.read(top, b"bin/start")
        for member, path in (
            (libc, b"lib/ld.so"),
            (outer, b"lib/libouter.so.1"),
            (inner, b"lib/libinner.so"),
            (libc, b"lib/libc.so"),  # beside the interpreter: no RUNPATH leads there
            (top, b"bin/start"),
        ):
            await watched.comes(member, path)
        await settled(watched)
        assert not await watched.here(outer, b"lib/unrelated.so")


def lib(member: Member) -> bytes:
    return member.path.path.encode() + b"/lib"


async def test_an_rpath_counts_for_the_libraries_of_libraries_too(house: House, watching: Watching) -> None:
    tree: Tree = {
        b"bin": {b"start": program(needed=[b"liba.so"], rpath=b"${ORIGIN}/../lib")},
        b"lib": {b"liba.so": program(needed=[b"libb.so"]), b"libb.so": program()},
    }
    top = add_sealed(house.lake, "top", tree, KEY)
    async with watching(top) as watched:
        await watched.read(top, b"bin/start")
        await watched.comes(top, b"lib/libb.so")


async def test_a_library_that_nothing_leads_to_is_found_by_its_name(house: House, watching: Watching) -> None:
    top = add_sealed(house.lake, "top", {b"start": program(needed=[b"libz.so.1"])}, KEY)
    other = add_sealed(
        house.lake, "z", {b"usr": {b"lib": {b"libz.so.1": Symlink(b"libz.so.1.3"), b"libz.so.1.3": program()}}}, KEY
    )
    async with watching(top, other) as watched:
        await watched.read(top, b"start")
        await watched.comes(other, b"usr/lib/libz.so.1")


async def test_nothing_is_brought_that_the_view_may_not_see(house: House, server: Server, watching: Watching) -> None:
    foreign = add_sealed(house.lake, "foreign", {b"lib": {b"libx.so": program(), b"ld.so": program()}}, KEY)
    way_out: Tree = {
        b"bin": {b"start": program(interpreter=lib(foreign) + b"/ld.so", needed=[b"libx.so"], runpath=lib(foreign))},
        b"lib": {b"libx.so": Symlink(lib(foreign) + b"/libx.so")},
    }
    top = add_sealed(house.lake, "top", way_out, KEY)
    async with watching(top) as watched:
        await watched.read(top, b"bin/start")
        await watched.comes(top, b"bin/start")
        await settled(watched)
    assert not server.asked(f"*{foreign.path.hash_part}*")
    assert not server.asked(f"/{foreign.narinfo.url}")


async def test_of_a_large_library_what_is_no_code_is_brought(house: House, watching: Watching) -> None:
    large = File(elf_file(needed=[b"libb.so"], runpath=b"$ORIGIN", padding=9_000_000), executable=True)
    top = add_sealed(house.lake, "top", {b"a": large, b"libb.so": program()}, KEY)
    async with watching(top) as watched:
        await watched.read(top, b"a")
        await watched.comes(top, b"libb.so")
        await settled(watched)
        assert watched.ahead_bytes < 1_000_000


async def test_a_wrapper_brings_the_program_it_runs(house: House, watching: Watching) -> None:
    bash = add_sealed(house.lake, "bash", {b"bin": {b"bash": program()}}, KEY)
    real = add_sealed(house.lake, "real", {b"bin": {b".hello-wrapped": program()}, b"doc": File(CODE)}, KEY)
    text = b'#! %b/bin/bash -e\nexport A="%b/doc"\nexec -a "$0" "%b/bin/.hello-wrapped" "$@"\n'
    path = real.path.path.encode()
    script = File(text % (bash.path.path.encode(), path, path), executable=True)
    top = add_sealed(house.lake, "top", {b"bin": {b"hello": script}}, KEY)
    async with watching(bash, real, top) as watched:
        await watched.read(top, b"bin/hello")
        await watched.comes(bash, b"bin/bash")
        await watched.comes(real, b"bin/.hello-wrapped")
        await settled(watched)
        assert not await watched.here(real, b"doc")


async def test_a_python_module_brings_what_it_imports_and_what_that_does(house: House, watching: Watching) -> None:
    filler = b"#" + CODE[:70_000].replace(b"\n", b" ") + b"\n"
    package: Tree = {
        b"__init__.py": File(b"from .a import x\nfrom . import (\n  b,  # twice\n  c,\n)\n" + filler),
        b"a.py": File(b"import other\n" + filler),
        b"b.py": File(filler),
        b"c.py": File(b"try:\n    import rare\nexcept ImportError:\n    pass\n" + filler),
        b"d.py": File(filler),
    }
    tree: Tree = {
        b"package": package,
        b"other.py": File(b"import _fast, os\nif TYPE_CHECKING:\n    import never\n" + filler),
        b"lib-dynload": {b"_fast.cpython-311-x86_64-linux-gnu.so": program()},
        b"os.py": File(filler),
        b"never.py": File(filler),
        b"rare.py": File(filler),
    }
    top = add_sealed(house.lake, "top", {b"lib": {b"python3": tree}}, KEY)
    async with watching(top) as watched:
        await watched.read(top, b"lib/python3/package/__init__.py", 131_072)
        await watched.comes(top, b"lib/python3/lib-dynload/_fast.cpython-311-x86_64-linux-gnu.so")
        for name in (b"a", b"b", b"c"):
            await watched.comes(top, b"lib/python3/package/%b.py" % name)
        await settled(watched)
        for name in (b"package/d", b"os", b"never", b"rare"):
            assert not await watched.here(top, b"lib/python3/%b.py" % name), name
        await watched.read(top, b"lib/python3/package/c.py", 131_072)
        await watched.comes(top, b"lib/python3/rare.py")


async def test_a_program_that_is_waited_for_brings_all_it_needs_before_it_is_read(
    house: House, watching: Watching
) -> None:
    other = add_sealed(house.lake, "other", {b"lib": {b"libz.so.1": program()}}, KEY)
    tree: Tree = {b"bin": {b"start": program(needed=[b"libz.so.1"], runpath=lib(other))}, b"data": File(CODE)}
    top = add_sealed(house.lake, "top", tree, KEY)
    async with watching(top, other) as watched:
        await watched.waits(top, b"data")
        await settled(watched)
        assert watched.ahead_bytes == 0
        await watched.waits(top, b"bin/start")
        await watched.comes(top, b"bin/start")
        await watched.comes(other, b"lib/libz.so.1")


async def test_a_module_that_is_waited_for_brings_what_lies_behind_it_and_what_is_not_python(
    house: House, watching: Watching
) -> None:
    names = [b"%c.py" % letter for letter in b"abcdef"]
    behind = dict.fromkeys(names, File(CODE[:60_000]))
    tree: Tree = {
        b"package": {b"__init__.py": File(b"#"), **behind, b"z": {b"z.py": File(CODE)}},
        b"lib-dynload": {
            b"_package.cpython-311-x86_64-linux-gnu.so": program(needed=[b"libx.so"], runpath=b"$ORIGIN/../.."),
            b"_other.cpython-311-x86_64-linux-gnu.so": program(),
        },
    }
    top = add_sealed(house.lake, "top", {b"python3": tree, b"libx.so": program()}, KEY)
    async with watching(top) as watched:
        await watched.waits(top, b"python3/package/__init__.py")
        await watched.comes(top, b"python3/lib-dynload/_package.cpython-311-x86_64-linux-gnu.so")
        await watched.comes(top, b"libx.so")
        await watched.comes(top, b"python3/package/a.py")
        await settled(watched)
        assert not await watched.here(top, b"python3/package/f.py")
        assert not await watched.here(top, b"python3/package/z/z.py")
        assert not await watched.here(top, b"python3/lib-dynload/_other.cpython-311-x86_64-linux-gnu.so")


async def test_a_compiled_module_that_is_waited_for_brings_the_same(house: House, watching: Watching) -> None:
    package: Tree = {
        b"__init__.py": File(CODE[:50_000]),
        b"__pycache__": {
            b"__init__.cpython-311.pyc": File(b"#"),
            b"a.cpython-311.pyc": File(CODE[:70_000]),
            b"b.cpython-311.pyc": File(CODE[:200_000]),
        },
    }
    tree: Tree = {b"package": package, b"lib-dynload": {b"_package.cpython-311-x86_64-linux-gnu.so": program()}}
    top = add_sealed(house.lake, "top", {b"python3": tree}, KEY)
    async with watching(top) as watched:
        await watched.waits(top, b"python3/package/__pycache__/__init__.cpython-311.pyc")
        await watched.comes(top, b"python3/lib-dynload/_package.cpython-311-x86_64-linux-gnu.so")
        await watched.comes(top, b"python3/package/__pycache__/a.cpython-311.pyc")
        await settled(watched)
        assert not await watched.here(top, b"python3/package/__pycache__/b.cpython-311.pyc")
        assert not await watched.here(top, b"python3/package/__init__.py")


async def test_who_waits_for_what_is_on_the_disk_already_has_nothing_brought(
    house: House, server: Server, watching: Watching
) -> None:
    top = add_sealed(house.lake, "top", {b"start": program(needed=[b"liba.so"]), b"liba.so": program()}, KEY)
    async with watching(top) as watched:
        start = await watched.place(top, b"start")
        await start.accessor.read(start.span.start, start.span.length)
    asked = len(server.asked("/nar/*"))
    async with watching(top) as watched:
        await watched.waits(top, b"start")
        await settled(watched)
    assert len(server.asked("/nar/*")) == asked


async def test_nothing_more_is_brought_than_allowed(house: House, watching: Watching) -> None:
    names = [b"lib%d.so" % number for number in range(20)]
    libraries: Tree = dict.fromkeys(names, File(program().contents + CODE))
    start = program(needed=names, runpath=b"$ORIGIN/lib")
    top = add_sealed(house.lake, "top", {b"lib": libraries, b"start": start}, KEY)
    async with watching(top, allowance=10_000) as watched:
        await watched.read(top, b"start")
        await settled(watched)
        assert 0 < watched.ahead_bytes < 3_000_000


async def test_what_is_here_already_is_not_followed(house: House, server: Server, watching: Watching) -> None:
    top = add_sealed(house.lake, "top", {b"start": program(needed=[b"liba.so"]), b"liba.so": program()}, KEY)
    async with watching(top) as watched:
        await watched.read(top, b"start")
        await watched.comes(top, b"liba.so")
    asked = len(server.asked("/nar/*"))
    async with watching(top) as watched:
        await watched.read(top, b"start")
        await settled(watched)
    assert len(server.asked("/nar/*")) == asked


async def test_what_cannot_be_had_stops_nothing_else(house: House, server: Server, watching: Watching) -> None:
    other = add_sealed(house.lake, "other", {b"liba.so": program(needed=[b"libb.so"])}, KEY)
    start = program(needed=[b"liba.so", b"libb.so"], runpath=other.path.path.encode() + b":$ORIGIN")
    top = add_sealed(house.lake, "top", {b"start": start, b"libb.so": program()}, KEY)
    async with watching(top, other) as watched:
        server.on(f"/{other.narinfo.url}", Fault(status=500))
        await watched.read(top, b"start")
        await watched.comes(top, b"libb.so")
        server.behave()
        await watched.read(other, b"liba.so")


@asynccontextmanager
async def beside_a_stall(
    house: House, server: Server, watching: Watching, *, nodes: int
) -> AsyncIterator[tuple[Watched, Member, Stall]]:
    """Await files of a path whose index stalls, and then a program that needs a library beside it."""
    stalling = add_sealed(house.lake, "stalling", {b"start": program()}, KEY)
    top = add_sealed(house.lake, "top", {b"start": program(needed=[b"liba.so"]), b"liba.so": program()}, KEY)
    async with watching(stalling, top) as watched:
        await watched.place(top, b"start")
        server.on(f"/{index_name(stalling.path)}", Fault(stall=(stall := Stall())))
        for node in range(nodes):
            watched.mentions.awaits(stalling.path, node)
        await watched.waits(top, b"start")
        yield watched, top, stall


async def test_a_path_whose_index_does_not_come_stops_nothing_else(
    house: House, server: Server, watching: Watching
) -> None:
    async with beside_a_stall(house, server, watching, nodes=4) as (watched, top, _):
        await watched.comes(top, b"liba.so")


async def test_what_is_passed_over_when_too_much_is_read_is_followed_the_next_time(
    house: House, server: Server, watching: Watching
) -> None:
    async with beside_a_stall(house, server, watching, nodes=100) as (watched, top, stall):
        stall.released.set()
        while watched.mentions._waiting:  # noqa: ASYNC110 - nobody is told
            await trio.sleep(0.01)
        assert not await watched.here(top, b"liba.so")
        await watched.waits(top, b"start")
        await watched.comes(top, b"liba.so")


class Turns:
    """Counts the turns that others get meanwhile."""

    def __init__(self) -> None:
        self.count = 0

    async def take(self) -> None:
        while True:
            self.count += 1
            await trio.lowlevel.checkpoint()


async def test_others_get_their_turn_while_hostile_files_are_followed(
    house: House, watching: Watching, nursery: trio.Nursery
) -> None:
    names = [b"a%d" % number for number in range(100)]
    tree: Tree = {b"around": Symlink(b"around"), b"p": {name + b".py": File(b"") for name in names}, b"m.py": File(b"")}
    top = add_sealed(house.lake, "top", tree, KEY)
    turns = Turns()
    async with watching(top) as watched:
        root, module = await watched.place(top, b""), await watched.place(top, b"m.py")
        nursery.start_soon(turns.take)
        await trio.lowlevel.checkpoint()
        before = turns.count
        assert await watched.sight.file(b"around", root) is None
        assert turns.count - before >= 4
        allowance = Allowance(0)
        modules = Modules(Libraries(watched.sight, allowance, nursery.start_soon), allowance, nursery.start_soon)
        before = turns.count
        await modules.follow(
            module, b"".join(b"from p import %b\n" % b", ".join(names[number:]) for number in range(20))
        )
        assert turns.count - before >= 8
    nursery.cancel_scope.cancel()


async def test_of_the_forms_of_a_module_a_few_are_looked_at(house: House, watching: Watching) -> None:
    forms = [b"a.%03d" % number for number in range(100)]
    tree: Tree = dict.fromkeys([*forms, b"a.so", b"b.cpython-311.so", b"b.py"], File(b"x"))
    top = add_sealed(house.lake, "top", tree, KEY)
    async with watching(top) as watched:
        allowance = Allowance(0)
        found: list[bytes] = []

        def start(_: object, place: Place) -> None:
            found.append(place.listing.name(place.node))

        modules = Modules(Libraries(watched.sight, allowance, start), allowance, start)
        module = await watched.place(top, b"b.py")
        await modules.follow(module, b"import a, b\n")
        assert found == [b"b.cpython-311.so"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"a/file", b"a/file"),
        (b"./a/../a//link", b"a/file"),
        (b"around", None),
        (b"out", None),
        (b"../../etc", None),
        (b"a/file/below", None),
        (b"a", None),
        (b"absent", None),
    ],
)
async def test_a_path_is_followed_as_the_kernel_does(
    house: House, watching: Watching, path: bytes, found: bytes | None
) -> None:
    tree: Tree = {
        b"a": {b"file": File(b"here"), b"link": Symlink(b"../a/./file")},
        b"around": Symlink(b"around"),
        b"out": Symlink(b"/etc/passwd"),
    }
    top = add_sealed(house.lake, "top", tree, KEY)
    async with watching(top) as watched:
        root = await watched.place(top, b"")
        place = await watched.sight.file(path, root)
        assert (None if place is None else place.node) == (None if found is None else root.listing.find(found))
        assert await watched.sight.file(b"/nix/store/" + top.path.base_name.encode() + b"/a/link") is not None
        assert await watched.sight.file(b"/usr/lib") is None
        assert root.listing.kind(0) is Kind.DIRECTORY
