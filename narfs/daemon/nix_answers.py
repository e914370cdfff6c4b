"""What the metadata socket answers: one function an operation of the worker protocol, and no other is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from narfs.errors import FormatError, NarfsError, NotFound, ReadOnly
from narfs.formats import worker_protocol
from narfs.formats.quote import quote
from narfs.formats.store_path import HASH_PART, StorePath
from narfs.formats.worker_protocol import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from narfs.daemon.known_paths import KnownPaths
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.worker_protocol import Request

    Words = tuple[bytes, ...]

_NOT_BUILT = b"!"
"""In ``DRV!OUTPUTS``, which would have to be built."""


async def answer(request: Request, known: KnownPaths) -> bytes:
    """Give the whole reply: what was asked for, or an error that says why not."""
    try:
        do = _ANSWERS.get(request.number)
        if do is None:
            raise ReadOnly(f"narfs tells what narinfos say, and changes nothing: {request.name} is not done here")
        return worker_protocol.success(await do(known, request.words))
    except NarfsError as error:
        return worker_protocol.failure(str(error))


async def _is_valid_path(known: KnownPaths, words: Words) -> bytes:
    return worker_protocol.integer(int(await _info(known, words) is not None))


async def _query_path_info(known: KnownPaths, words: Words) -> bytes:
    return worker_protocol.path_info(await _info(known, words))


async def _query_valid_paths(known: KnownPaths, words: Words) -> bytes:
    return worker_protocol.paths(await known.valid(map(_path, words)))


async def _query_path_from_hash_part(known: KnownPaths, words: Words) -> bytes:
    text = words[0].decode("latin-1")
    if not HASH_PART.fullmatch(text):
        raise FormatError("hash part", offset=0, expected="32 nix32 digits", found=quote(text))
    found = await known.describe(text)
    return worker_protocol.string(b"" if found is None else found.path.path.encode())


async def _query_all_valid_paths(known: KnownPaths, _: Words) -> bytes:
    return worker_protocol.paths(narinfo.path for narinfo in known.everything())


async def _query_referrers(known: KnownPaths, words: Words) -> bytes:
    return worker_protocol.paths(known.referrers(_path(words[0])))


async def _query_valid_derivers(known: KnownPaths, words: Words) -> bytes:
    info = await _info(known, words)
    derivers = () if info is None or info.deriver is None else (StorePath(info.deriver),)
    return worker_protocol.paths(await known.valid(derivers))


async def _query_missing(known: KnownPaths, words: Words) -> bytes:
    derivations = {_path(word.partition(_NOT_BUILT)[0]) for word in words if _NOT_BUILT in word}
    wanted = {_path(word) for word in words if _NOT_BUILT not in word}
    return worker_protocol.missing(derivations | (wanted - await known.valid(wanted)))


async def _ensure_path(known: KnownPaths, words: Words) -> bytes:
    if await _info(known, words) is None:
        raise NotFound(f"path '{_path(words[0])}' is not valid, and nothing can be brought into this store")
    return worker_protocol.integer(1)


async def _hold(_: KnownPaths, __: Words) -> bytes:
    """Agree to keep a path: what is shown stays, as long as it is mounted."""
    return worker_protocol.integer(1)


async def _nothing(_: KnownPaths, __: Words) -> bytes:
    """Give an empty set: nothing would be fetched from elsewhere, and no content-addressed output is known."""
    return worker_protocol.strings(())


async def _take_note(_: KnownPaths, __: Words) -> bytes:
    return b""


async def _info(known: KnownPaths, words: Words) -> NarInfo | None:
    path = _path(words[0])
    narinfo = await known.describe(path.hash_part)
    return narinfo if narinfo is not None and narinfo.path == path else None


def _path(word: bytes) -> StorePath:
    return StorePath.parse_absolute(word.decode("latin-1"))


_ANSWERS: dict[int, Callable[[KnownPaths, Words], Awaitable[bytes]]] = {
    Operation.IS_VALID_PATH: _is_valid_path,
    Operation.QUERY_REFERRERS: _query_referrers,
    Operation.ENSURE_PATH: _ensure_path,
    Operation.ADD_TEMP_ROOT: _hold,
    Operation.SYNC_WITH_GC: _hold,
    Operation.SET_OPTIONS: _take_note,
    Operation.QUERY_ALL_VALID_PATHS: _query_all_valid_paths,
    Operation.QUERY_PATH_INFO: _query_path_info,
    Operation.QUERY_PATH_FROM_HASH_PART: _query_path_from_hash_part,
    Operation.QUERY_VALID_PATHS: _query_valid_paths,
    Operation.QUERY_SUBSTITUTABLE_PATHS: _nothing,
    Operation.QUERY_VALID_DERIVERS: _query_valid_derivers,
    Operation.QUERY_MISSING: _query_missing,
    Operation.QUERY_REALISATION: _nothing,
}
