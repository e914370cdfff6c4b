from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Corrupt, Unavailable, UsageError
from narfs.formats.compression import decoder
from narfs.formats.digest import Hash
from narfs.formats.ls import from_ls
from narfs.formats.nar import NarIndexer
from narfs.formats.seal import unseal
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.formats.store_path import StorePath, make_source_path
from narfs.lake.binary_cache import BinaryCache
from narfs.lake.file import FileTransport
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl
from narfs.publish.nar_dump import HOP_BYTES
from narfs.publish.nix_store import ValidPath
from narfs.publish.push import StoreObject, Tree, push

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Mapping
    from pathlib import Path

    from narfs.formats.narinfo import NarInfo
    from narfs.publish.progress import Progress

KEY = SecretKey.generate("push.test-1")


class WatchedTransport(FileTransport):
    """A directory that writes down what is put, refuses names that end like ``refused``, and never takes ``stuck``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(StoreUrl.parse(f"file://{directory}"), LakeSettings())
        self.puts: list[str] = []
        self.refused = self.stuck = "nothing"
        self.is_stuck = trio.Event()

    async def put(self, name: str, chunks: AsyncIterable[bytes], size: int) -> None:
        await self._meet(name)
        await super().put(name, chunks, size)
        self.puts.append(name)

    async def put_small(self, objects: Mapping[str, bytes]) -> None:
        """One after the other, as they may well arrive."""
        for name, data in objects.items():
            await self._meet(name)
            await super().put_small({name: data})
            self.puts.append(name)

    async def _meet(self, name: str) -> None:
        if name.endswith(self.refused):
            raise Unavailable(f"{name}: the disk is full")
        if name.endswith(self.stuck):
            self.is_stuck.set()
            await trio.sleep_forever()


class Lake(BinaryCache):
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.transport = WatchedTransport(directory)
        super().__init__(StoreUrl.parse(f"file://{directory}"), self.transport)

    def files(self) -> list[str]:
        return sorted(str(file.relative_to(self.directory)) for file in self.directory.rglob("*") if file.is_file())

    def nar(self, narinfo: NarInfo) -> bytes:
        decode = decoder(narinfo.compression, nar_size=narinfo.nar_size)
        nar = b"".join(decode.feed((self.directory / narinfo.url).read_bytes()))
        decode.finish()
        return nar


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "source"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "tool").write_bytes(bytes(range(256)) * 8192)
    (root / "bin" / "tool").chmod(0o755)
    (root / "link").symlink_to("bin/tool")
    return Tree("tool-1.0", root)


def text_tree(directory: Path, name: str, *mentions: StorePath) -> Tree:
    file = directory / name
    file.write_text("\n".join(["#!/bin/sh", f"# {name}", *(path.path for path in mentions)]))
    return Tree(name, file)


async def test_an_empty_place_becomes_a_lake_with_a_signed_path(lake: Lake, tree: Tree) -> None:
    report = await push(lake, [tree], key=KEY)
    [pushed] = report.paths
    assert report.roots == (pushed.path,)
    assert pushed.status == "sent"
    assert pushed.vouched_for
    fresh = Lake(lake.directory)
    assert (await fresh.info()).want_mass_query
    narinfo = await fresh.narinfo(pushed.path.hash_part)
    assert PublicKeys((KEY.public,)).verify(narinfo.fingerprint, narinfo.signatures) == KEY.name
    assert narinfo.content_address_matches()
    assert (narinfo.nar_size, narinfo.file_size) == (pushed.nar_size, pushed.file_size)


@pytest.mark.parametrize(("compression", "ending"), [("zstd", ".nar.zst"), ("none", ".nar")])
async def test_the_blob_is_the_nar_and_is_named_after_itself(
    lake: Lake, tree: Tree, compression: str, ending: str
) -> None:
    report = await push(lake, [tree], compression=compression)
    narinfo = await lake.narinfo(report.roots[0].hash_part)
    blob = (lake.directory / narinfo.url).read_bytes()
    assert narinfo.file_hash == Hash("sha256", hashlib.sha256(blob).digest())
    assert narinfo.url == f"nar/{narinfo.file_hash.nix32.removeprefix('sha256:')}{ending}"
    assert narinfo.file_size == len(blob)
    nar = lake.nar(narinfo)
    assert hashlib.sha256(nar).digest() == narinfo.nar_hash
    indexer = NarIndexer(len(nar))
    indexer.feed(nar)
    assert from_ls(await lake.listing(narinfo.path.hash_part)) == indexer.finish()


async def test_with_a_key_the_path_is_sealed(lake: Lake, tree: Tree) -> None:
    report = await push(lake, [tree], key=KEY)
    part = report.roots[0].hash_part
    narinfo = await lake.narinfo(part)
    assert lake.transport.puts[1:] == [narinfo.url, f"{part}.ls", f"{part}.narfs", f"{part}.narinfo"]
    index = unseal(await lake.sealed_index(narinfo), narinfo, PublicKeys((KEY.public,)))
    nar = lake.nar(narinfo)
    assert index.listing == from_ls(await lake.listing(part))
    assert index.frames is not None
    assert index.grid.count == len(index.frames.nar_bounds) - 1 > 8
    for chunk in range(index.grid.count):
        span = index.grid.span(chunk)
        assert index.digest(chunk) == hashlib.sha256(nar[span.start : span.end]).digest()


async def test_without_a_key_and_without_compression_there_is_no_index(lake: Lake, tree: Tree) -> None:
    await push(lake, [tree])
    await push(lake, [Tree("plain", tree.root)], key=KEY, compression="none")
    assert not any(name.endswith(".narfs") for name in lake.files())


async def test_the_same_files_make_the_same_sealed_blob(tmp_path: Path, tree: Tree) -> None:
    blobs = []
    for number in range(2):
        lake = Lake(tmp_path / str(number))
        narinfo = await lake.narinfo((await push(lake, [tree], key=KEY)).roots[0].hash_part)
        blobs.append(narinfo.file_hash)
    assert blobs[0] == blobs[1]


async def test_a_higher_level_makes_a_smaller_blob(tmp_path: Path, tree: Tree) -> None:
    sizes = [(await push(Lake(tmp_path / str(level)), [tree], level=level)).paths[0].file_size for level in (1, 19)]
    assert sizes[0] > sizes[1] > 0


async def test_what_the_lake_has_is_not_sent_again(lake: Lake, tree: Tree) -> None:
    first = await push(lake, [tree], key=KEY)
    lake.transport.puts.clear()
    again = await push(lake, [tree, tree], key=KEY)
    assert lake.transport.puts == []
    assert again.roots == first.roots * 2
    assert again.paths == (replace(first.paths[0], status="present"),)


async def test_a_blob_that_is_there_is_not_sent_for_another_name(lake: Lake, tree: Tree) -> None:
    await push(lake, [tree])
    lake.transport.puts.clear()
    report = await push(lake, [Tree("another", tree.root)])
    part = report.roots[0].hash_part
    assert lake.transport.puts == [f"{part}.ls", f"{part}.narinfo"]


async def test_trees_refer_to_each_other_and_to_what_is_announced(lake: Lake, tmp_path: Path) -> None:
    base = text_tree(tmp_path, "base")
    [base_path] = (await push(lake, [base])).roots
    libs = text_tree(tmp_path, "libs", base_path)
    [libs_path] = (await push(lake, [libs], references=[base_path], dry_run=True)).roots
    tool = text_tree(tmp_path, "tool", libs_path, base_path)
    report = await push(lake, [tool, libs], references=[base_path])
    narinfo = await lake.narinfo(report.roots[0].hash_part)
    assert report.roots[1] == libs_path
    assert narinfo.references == tuple(sorted([libs_path, base_path]))
    assert narinfo.content_address_matches()


async def test_many_paths_are_packed_by_processes_and_all_complete(lake: Lake, tmp_path: Path) -> None:
    trees: list[Tree] = []
    paths: list[StorePath] = []
    for number in range(9):
        trees.append(text_tree(tmp_path, f"t{number}", *paths[-1:]))
        with trees[-1].root.open("ab") as file:
            file.write(bytes(700_000))
        paths = list((await push(lake, trees, dry_run=True)).roots)
    await push(lake, trees[::-1], key=KEY)
    order = {name: position for position, name in enumerate(lake.transport.puts)}
    for path in paths:
        narinfo = await lake.narinfo(path.hash_part)
        assert hashlib.sha256(lake.nar(narinfo)).digest() == narinfo.nar_hash
        assert order[narinfo.url] < order[f"{path.hash_part}.narinfo"]
        for reference in narinfo.references:
            assert order[f"{reference.hash_part}.narinfo"] < order[f"{path.hash_part}.narinfo"]


async def test_whatever_is_there_is_complete(lake: Lake, tmp_path: Path) -> None:
    trees: list[Tree] = []
    paths: list[StorePath] = []
    for number in range(12):
        trees.append(text_tree(tmp_path, f"t{number}", *paths[-2:]))
        paths = list((await push(lake, trees, dry_run=True)).roots)
    await push(lake, trees[::-1])
    order = {name: position for position, name in enumerate(lake.transport.puts)}
    assert order.pop("nix-cache-info") == 0
    for path in paths:
        narinfo = await lake.narinfo(path.hash_part)
        assert order[narinfo.url] < order[f"{path.hash_part}.ls"] < order[f"{path.hash_part}.narinfo"]
        for reference in narinfo.references:
            assert order[f"{reference.hash_part}.narinfo"] < order[f"{path.hash_part}.narinfo"]
    assert len(order) == 3 * len(paths)


async def test_a_reference_that_nobody_has_is_refused_before_anything_is_written(lake: Lake, tmp_path: Path) -> None:
    absent = make_source_path("absent", bytes(32))
    with pytest.raises(UsageError, match=f"tool refers to {absent.path}, which the lake does not have"):
        await push(lake, [text_tree(tmp_path, "tool", absent)], references=[absent])
    assert lake.files() == []


async def test_a_dry_run_says_the_same_and_writes_nothing(lake: Lake, tree: Tree) -> None:
    dry = await push(lake, [tree], key=KEY, dry_run=True)
    assert lake.files() == []
    assert [path.status for path in dry.paths] == ["would send"]
    assert dry.paths[0].vouched_for
    assert dry.roots == (await push(lake, [tree], key=KEY)).roots


async def valid_path(lake: Lake, tree: Tree) -> ValidPath:
    """Give what a Nix store would say of a build's output with the files of ``tree``."""
    [pushed] = (await push(lake, [tree])).paths
    narinfo = await lake.narinfo(pushed.path.hash_part)
    path = StorePath(f"{'7' * 32}-built")
    deriver = f"{'8' * 32}-built.drv"
    signature = SecretKey.generate("builder-1").sign("whatever")
    return ValidPath(path, narinfo.nar_hash, narinfo.nar_size, (path,), deriver, (signature,), None)


async def test_what_nix_knows_of_a_path_is_kept(lake: Lake, tree: Tree) -> None:
    info = await valid_path(lake, tree)
    await push(lake, [StoreObject(info, tree.root)], key=KEY)
    narinfo = await lake.narinfo(info.path.hash_part)
    assert (narinfo.path, narinfo.references, narinfo.deriver, narinfo.ca) == (
        *(info.path, (info.path,), info.deriver, None),
    )
    assert [signature.key_name for signature in narinfo.signatures] == ["builder-1", KEY.name]


async def test_a_path_that_nobody_will_trust_is_reported_as_such(lake: Lake, tree: Tree) -> None:
    info = replace(await valid_path(lake, tree), signatures=())
    report = await push(lake, [StoreObject(info, tree.root)])
    assert [path.vouched_for for path in report.paths] == [False]


async def test_a_path_that_is_not_what_nix_registered_is_not_published(lake: Lake, tree: Tree) -> None:
    info = await valid_path(lake, tree)
    for wrong in (replace(info, nar_hash=bytes(32)), replace(info, nar_size=info.nar_size - 8)):
        with pytest.raises(Corrupt, match="source: changed while it was pushed, or is damaged"):
            await push(lake, [StoreObject(wrong, tree.root)])
    assert f"{info.path.hash_part}.narinfo" not in lake.files()


async def test_progress_reaches_what_it_promised(lake: Lake, tree: Tree) -> None:
    seen: list[Progress] = []
    report = await push(lake, [tree], progress=seen.append)
    naming = [one for one in seen if one.total_bytes is None]
    sending = [one for one in seen if one.total_bytes is not None]
    size = report.paths[0].nar_size
    assert naming[-1].done_bytes == sending[-1].done_bytes == sending[-1].total_bytes == size
    assert [one.done_bytes for one in sending] == sorted(one.done_bytes for one in sending)
    assert (
        max(after.done_bytes - one.done_bytes for one, after in pairwise(sending)) <= HOP_BYTES + 1024
    )  # a file of it at once
    assert {one.subject for one in seen} == {"tool-1.0"}


@pytest.mark.parametrize("refused", [".zst", ".ls", ".narfs", ".narinfo"])
async def test_a_lake_that_fails_is_left_valid_and_said_so(
    lake: Lake, tree: Tree, tmp_path: Path, refused: str
) -> None:
    lake.transport.refused = refused
    others = [text_tree(tmp_path, f"t{number}") for number in range(5)]
    with pytest.raises(Unavailable, match="the disk is full"):
        await push(lake, [tree, *others], key=KEY)
    kinds = Counter(name.rpartition(".")[2] for name in lake.files())
    assert kinds["narinfo"] <= kinds["narfs"] <= kinds["ls"] <= kinds["zst"]
    lake.transport.refused = "nothing"
    report = await push(lake, [tree, *others], key=KEY)
    assert len(report.paths) == 6


async def test_a_push_that_is_cancelled_leaves_nothing_in_the_way(lake: Lake, tree: Tree) -> None:
    lake.transport.stuck = ".ls"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(push, lake, [tree])
        await lake.transport.is_stuck.wait()
        nursery.cancel_scope.cancel()
    assert not any(name.endswith((".narinfo", ".ls")) or ".tmp." in name for name in lake.files())
    lake.transport.stuck = "nothing"
    assert [path.status for path in (await push(lake, [tree])).paths] == ["sent"]


async def test_what_cannot_be_read_is_named_and_nothing_written(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent: cannot be read"):
        await push(lake, [Tree("x", tmp_path / "absent")])
    assert lake.files() == []


async def test_an_unknown_compression_is_refused(lake: Lake, tree: Tree) -> None:
    with pytest.raises(UsageError, match="choose none or zstd"):
        await push(lake, [tree], compression="xz")
