"""A name server on loopback for one name, which can be asked to fail."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import random

_RESPONSE, _SERVER_FAILURE, _NO_SUCH_NAME = 0x8180, 2, 3
_A = b"\0\x01\0\x01"
_ADDRESS = b"\xc0\x0c" + _A + bytes(4) + b"\0\x04" + bytes((127, 0, 0, 1))


class NameServer:
    """Answers every question for an address with 127.0.0.1, or, while ``failing``, in one of three wrong ways."""

    def __init__(self, chance: random.Random) -> None:
        self.failing = False
        self.failed = 0
        """Questions for an address that were not answered as they should be."""
        self._chance = chance

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            await door.bind(("127.0.0.1", 53))
            task_status.started()
            while True:
                query, asker = await door.recvfrom(512)
                if (answer := self.answer(query)) is not None:
                    await door.sendto(answer, asker)

    def answer(self, query: bytes) -> bytes | None:
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        asks = question.endswith(_A)
        failure = 0
        if self.failing:
            self.failed += asks
            failure = self._chance.choice((_SERVER_FAILURE, _NO_SUCH_NAME, -1))
        if failure == -1:
            return None
        answers = _ADDRESS if asks and not failure else b""
        counts = b"\0\x01" + (b"\0\x01" if answers else bytes(2)) + bytes(4)
        return query[:2] + (_RESPONSE | failure).to_bytes(2) + counts + question + answers
