"""What a closed View needs of its closure before it can be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from narfs.engine.closure import describe_all
from narfs.errors import NotFound
from narfs.formats.seal import index_name
from narfs.formats.signature import PublicKeys, SecretKey
from tests.support.faults import Fault, Stall
from tests.support.sealing import add_sealed
from tests.support.server import Server, serve
from tests.support.trees import File

if TYPE_CHECKING:
    from narfs.engine.store import Store
    from narfs.formats.store_path import StorePath
    from tests.engine.conftest import House
    from tests.support.trees import Tree

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))


def add_chain(house: House, length: int) -> list[StorePath]:
    """Add paths that each refer to the one before; the last is the top."""
    paths: list[StorePath] = []
    for number in range(length):
        tree: Tree = {b"file": File(b"%d" % number)}
        paths.append(add_sealed(house.lake, f"path-{number}", tree, KEY, references=tuple(paths[-1:])).path)
    return paths


async def test_indexes_are_asked_for_while_the_closure_is_still_walked(house: House, nursery: trio.Nursery) -> None:
    server: Server = await nursery.start(serve, house.lake.directory)
    *others, first, top = add_chain(house, 5)
    narinfo, index = Stall(), Stall()
    server.on(f"/{first.hash_part}.narinfo", Fault(stall=narinfo))
    server.on(f"/{index_name(top)}", Fault(stall=index))
    async with house.open(server.url, index_keys=KEYS) as store, trio.open_nursery() as walking:
        walking.start_soon(walk, store, top)
        with trio.fail_after(60):
            await narinfo.reached.wait()
            await index.reached.wait()
        narinfo.released.set()
        index.released.set()
    assert all(len(server.asked(f"/{index_name(path)}")) == 1 for path in (*others, first, top))


async def walk(store: Store, top: StorePath) -> None:
    members = await describe_all(store, [top], closure=True, allow_missing=False, unseal=True)
    assert len(members) == 5
    assert [each.narinfo.path for each in members] == sorted(each.narinfo.path for each in members)


async def test_an_index_that_is_not_to_be_had_does_not_stop_the_walk(house: House, nursery: trio.Nursery) -> None:
    server: Server = await nursery.start(serve, house.lake.directory)
    *_, top = add_chain(house, 5)
    server.on("/*.narfs*", Fault(status=404))
    async with house.open(server.url, index_keys=KEYS) as store:
        await walk(store, top)


async def test_a_closure_with_holes_names_them_and_is_given_without_them_if_that_will_do(house: House) -> None:
    first, _, top = add_chain(house, 3)
    house.lake.narinfo_file(first).unlink()
    async with house.open(index_keys=KEYS) as store:
        with pytest.raises(NotFound, match=first.base_name):
            await describe_all(store, [top], closure=True, allow_missing=False)
        members = await describe_all(store, [top], closure=True, allow_missing=True)
        assert len(members) == 2
