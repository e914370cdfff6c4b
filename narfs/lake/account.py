"""Account: what was fetched for somebody, how much that may be, and how fast.

Whoever waits for bytes has an account pay for what is begun meanwhile. Tasks have it from those who start them; so a
fetch that several wait for is paid by whoever asked first, and goes at his pace. Without an account all is free.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from narfs.errors import OverQuota

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from narfs.lake.line import Lane

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_paying: ContextVar[Account | None] = ContextVar("paying", default=None)

_TRIES: Final = 3
"""Fetches of others that end at their quota while we wait for them."""


async def paid(work: Coroutine[Any, Any, bytes]) -> bytes:
    """Do one request, and pay for what it gives."""
    account = _paying.get()
    if account is None:
        return await work
    try:
        account.begin()
    except OverQuota:
        work.close()
        raise
    data = await work
    await account.receive(len(data))
    return data


@asynccontextmanager
async def paid_stream(
    stream: AbstractAsyncContextManager[AsyncIterator[bytes]],
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open a stream, and pay for its pieces; it ends with OverQuota where the quota does."""
    if (account := _paying.get()) is not None:
        account.begin()
    async with stream as pieces:
        yield pieces if account is None else _PaidPieces(account, pieces)


class _PaidPieces:
    def __init__(self, account: Account, pieces: AsyncIterator[bytes]) -> None:
        self._account = account
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self._account.require()
        await self._account.receive(len(piece))
        return piece


class Account:
    """Of one View; ``quota_bytes`` is exceeded by what is under way when it is reached."""

    def __init__(self, name: str, *, quota_bytes: int | None = None, lanes: Sequence[Lane] = ()) -> None:
        self.requests = 0
        self.received_bytes = 0
        self._name = name
        self._quota_bytes = quota_bytes
        self._lanes = lanes

    @contextmanager
    def paying(self) -> Iterator[None]:
        """Pay for what is begun in the block."""
        token = _paying.set(self)
        try:
            yield
        finally:
            _paying.reset(token)

    async def pays(self, ask: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Ask, and pay; again if what was waited for was paid by somebody else, who has reached his quota."""
        token = _paying.set(self)
        try:
            for _ in range(_TRIES - 1):
                try:
                    return await ask(*args)
                except OverQuota:
                    self.require()
            return await ask(*args)
        finally:
            _paying.reset(token)

    def require(self) -> None:
        """Raise OverQuota if nothing more may be fetched."""
        if self._quota_bytes is not None and self.received_bytes >= self._quota_bytes:
            raise OverQuota(f"{self._name}: has fetched the {self._quota_bytes} bytes it may (fetch-bytes)")

    def begin(self) -> None:
        """Note a request; OverQuota."""
        self.require()
        self.requests += 1

    async def receive(self, nbytes: int) -> None:
        """Note what came, and wait for as long as it should have taken."""
        self.received_bytes += nbytes
        for lane in self._lanes:
            await lane.carry(nbytes)
