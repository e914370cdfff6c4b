"""Account: what was fetched for somebody, how much that may be, and how fast.

Whoever waits for bytes has an account pay for what is begun meanwhile. Tasks have it from those who start them; so a
fetch that several wait for is paid by whoever asked first, and goes at his pace. Without an account all is free.
"""

from __future__ import annotations

from array import array
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, TypeVarTuple

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

_MOST_SPANS: Final = 1 << 16
"""Of one blob, 16 bytes each; 64 GB if each request brings 1 MiB. Those that come then count without their place."""


def payer() -> Account | None:
    """Say who pays for what is begun here."""
    return _paying.get()


async def paid(work: Coroutine[Any, Any, bytes], blob: BlobPlace | None = None) -> bytes:
    """Do one request, and pay for what it gives, which is there in a blob if it is of one."""
    account = _paying.get()
    if account is None:
        return await work
    try:
        account.begin(blob)
    except OverQuota:
        work.close()
        raise
    data = await work
    await account.receive(len(data), blob)
    return data


@asynccontextmanager
async def paid_stream(
    stream: AbstractAsyncContextManager[AsyncIterator[bytes]], blob: BlobPlace
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open a blob from there on, and pay for its pieces; it ends with OverQuota where the quota does."""
    if (account := _paying.get()) is not None:
        account.begin(blob)
    async with stream as pieces:
        yield pieces if account is None else _PaidPieces(account, pieces, blob)


class _PaidPieces:
    def __init__(self, account: Account, pieces: AsyncIterator[bytes], blob: BlobPlace) -> None:
        self._account = account
        self._pieces = pieces
        self._blob = blob

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self._account.require()
        place, self._blob = self._blob, BlobPlace(self._blob.hash_part, self._blob.start + len(piece))
        await self._account.receive(len(piece), place)
        return piece


class BlobPlace(NamedTuple):
    """A place in the blob of a store path."""

    hash_part: str
    start: int


class Fetched:
    """What came of one blob: how much, in how many requests, and where it lay."""

    __slots__ = ("_ends", "_starts", "received_bytes", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.received_bytes = 0
        self._starts = array("Q")
        self._ends = array("Q")

    def spans(self) -> Iterator[tuple[int, int]]:
        """Give what came as bytes of the blob, from and to, in the order in which it came."""
        return zip(self._starts, self._ends, strict=True)

    def note(self, start: int, nbytes: int) -> None:
        """Note what came."""
        self.received_bytes += nbytes
        if self._ends and self._ends[-1] == start:
            self._ends[-1] += nbytes
        elif len(self._ends) < _MOST_SPANS:
            self._starts.append(start)
            self._ends.append(start + nbytes)


class Account:
    """Of one View; ``quota_bytes`` is exceeded by what is under way when it is reached."""

    def __init__(
        self, name: str, *, quota_bytes: int | None = None, lanes: Sequence[Lane] = (), by_path: bool = True
    ) -> None:
        self.requests = 0
        self.received_bytes = 0
        self.fetched: dict[str, Fetched] = {}
        """By the hash part of the store path: of its blob, without what describes it. Nothing if not ``by_path``."""
        self._name = name
        self._by_path = by_path
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

    def begin(self, blob: BlobPlace | None = None) -> None:
        """Note a request; OverQuota."""
        self.require()
        self.requests += 1
        if blob is not None and self._by_path:
            self.fetched.setdefault(blob.hash_part, Fetched()).requests += 1

    async def receive(self, nbytes: int, blob: BlobPlace | None = None) -> None:
        """Note what came, and wait for as long as it should have taken."""
        self.received_bytes += nbytes
        if blob is not None and self._by_path:
            self.fetched[blob.hash_part].note(blob.start, nbytes)
        for lane in self._lanes:
            await lane.carry(nbytes)
