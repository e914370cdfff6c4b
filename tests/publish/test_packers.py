from __future__ import annotations

import hashlib
import os
import pickle
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Corrupt, Unavailable, UsageError
from narfs.formats.compression import decoder
from narfs.formats.narinfo import NarInfo
from narfs.formats.seal import unseal
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.formats.store_path import make_source_path
from narfs.publish.packers import open_packers
from narfs.publish.packing import Parcel
from tests.support.trees import ODD_TREE, dump, write_to_disk

if TYPE_CHECKING:
    from narfs.publish.packing import Crate

KEY = SecretKey.generate("packers.test-1")
NAR = dump(ODD_TREE)


@pytest.fixture
def parcel(tmp_path: Path) -> tuple[Path, Parcel]:
    root = tmp_path / "odd"
    write_to_disk(ODD_TREE, root)
    nar_hash = hashlib.sha256(NAR).digest()
    narinfo = NarInfo(make_source_path("odd", nar_hash), "nar/", "zstd", nar_hash, len(NAR))
    return root, Parcel(narinfo, f"{root}: is wrong", 3, KEY, KEY)


def children() -> list[int]:
    """Give the processes that this one has started."""
    lists = (task / "children" for task in Path("/proc/self/task").iterdir())
    return [int(pid) for each in lists for pid in each.read_text().split()]


def nar_of(crate: Crate) -> bytes:
    decode = decoder("zstd", nar_size=len(NAR))
    nar = b"".join(decode.feed(crate.blob))
    decode.finish()
    return nar


@pytest.mark.parametrize("count", [0, 1])
async def test_a_process_packs_what_a_thread_packs(parcel: tuple[Path, Parcel], count: int) -> None:
    with open_packers(3, count) as packers:
        first, second = await packers.pack([parcel, parcel])
    assert first == second
    assert nar_of(first) == NAR
    narinfo = first.packed.narinfo
    assert PublicKeys((KEY.public,)).verify(narinfo.fingerprint, narinfo.signatures) == KEY.name
    assert first.packed.index is not None
    assert unseal(first.packed.index, narinfo, PublicKeys((KEY.public,))).listing.child(0, b"big") is not None


@pytest.mark.parametrize("count", [0, 1])
async def test_what_is_wrong_is_raised_here_and_packing_goes_on(parcel: tuple[Path, Parcel], count: int) -> None:
    root, good = parcel
    wrong = replace(good, narinfo=replace(good.narinfo, nar_hash=bytes(32)))
    with open_packers(3, count) as packers:
        with pytest.raises(Corrupt, match="odd: is wrong: sha256:"):
            await packers.pack([parcel, (root, wrong)])
        with pytest.raises(UsageError, match="absent: cannot be read"):
            await packers.pack([(root / "absent", good)])
        assert len(await packers.pack([parcel])) == 1


async def test_a_process_that_dies_is_said_so(parcel: tuple[Path, Parcel]) -> None:
    before = {*children()}
    with open_packers(3, 1) as packers:
        [pid] = {*children()} - before
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="a packing process ended"):
            await packers.pack([parcel])
    assert pid not in children()


async def test_a_process_that_dies_in_the_middle_of_its_answer_is_said_so(parcel: tuple[Path, Parcel]) -> None:
    ours, theirs = socket.socketpair()
    with open_packers(3, 1) as packers, ours.makefile("rwb") as peer, theirs:
        packers._processes[0]._peer = peer
        theirs.sendall(pickle.dumps(["a long answer" * 100])[:-300])
        theirs.shutdown(socket.SHUT_WR)
        with ours, pytest.raises(Unavailable, match="a packing process ended"):
            await packers.pack([parcel])


async def test_who_waits_for_a_process_that_dies_is_told_so_too(parcel: tuple[Path, Parcel]) -> None:
    before = {*children()}
    told: list[Exception] = []

    async def pack() -> None:
        try:
            await packers.pack([parcel])
        except Exception as error:  # noqa: BLE001 - of whatever kind
            told.append(error)

    with open_packers(3, 1) as packers:
        [pid] = {*children()} - before
        os.kill(pid, signal.SIGKILL)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pack)
            nursery.start_soon(pack)
    assert [type(error) for error in told] == [Unavailable, Unavailable]
