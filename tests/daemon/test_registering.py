from __future__ import annotations

from collections import UserList
from hashlib import sha256
from typing import TYPE_CHECKING

import trio

from narfs.daemon.known_paths import ClosedSet
from narfs.daemon.registering import registration_aside
from narfs.formats.narinfo import NarInfo
from narfs.formats.store_path import StorePath

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PATH = StorePath.from_digest(sha256(b"one").digest()[:20], "one")


class AfterATurn(UserList[NarInfo]):
    """Gives nothing before the event loop has turned."""

    def __iter__(self) -> Iterator[NarInfo]:
        trio.from_thread.run(trio.lowlevel.checkpoint)
        return iter(self.data)


class Known(ClosedSet):
    def everything(self) -> Collection[NarInfo]:
        return AfterATurn(super().everything())


async def test_the_loop_turns_while_a_registration_is_written() -> None:
    known = Known([NarInfo(PATH, "nar/x", "none", b"\xab" * 32, 120, ())])
    assert (await registration_aside(known)).startswith(PATH.path)
