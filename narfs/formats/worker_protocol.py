r"""The Nix daemon's worker protocol, the server's side, as far as a store that is only read needs it. No I/O.

::

    integer = u64, little-endian
    string  = integer length, bytes, zeros up to a multiple of 8
    strings = integer count, string*

    client                                  server
    "cxin" integer                          "oixd" integer, version
    version, affinity, reserve              [version string], [trust], LAST
    operation, arguments                    LAST, reply   or   ERROR, error
    ...

    version  = integer: major * 256 + minor; both then speak the lower of the two
    affinity = 0 | integer integer
    reserve  = integer
    version string: from minor 33; trust: from minor 35; 2 says that the client may change nothing
    error    = string "Error", integer level, string "Error", string message, integer 0, integer 0

Rule 1. An operation's arguments are read whole before it is answered, those of an operation that is refused too: then
the connection stays usable. Operations that send a stream, and unknown ones, have no end that could be found:
``Request.last`` says that nothing can be read after them.
Rule 2. What is kept of arguments is their strings, in order; numbers (options, flags) mean nothing to a reader.
Rule 3. Anything else than this grammar is a FormatError, and ends the connection.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from narfs.errors import FormatError
from narfs.formats.quote import quote
from narfs.formats.store_path import STORE_DIR

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from narfs.formats.narinfo import NarInfo
    from narfs.formats.store_path import StorePath

CLIENT_MAGIC = 0x6E69_7863
SERVER_MAGIC = 0x6478_696F
MAJOR = 1
MINOR_NEWEST = 35
"""Later minors add what concerns builds, and an exchange of features."""
MINOR_OLDEST = 32
"""Nix 2.4, of 2021; older ones write other errors and other arguments."""

LAST = 0x616C_7473
ERROR = 0x6378_7470
_NOT_TRUSTED = 2

MAX_STRING_BYTES = 64 * 1024
"""A store path takes 255 bytes at most; the longest strings are values of options, such as lists of keys."""
MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""25 000 store paths of 70 characters; the largest closures seen have 10 000. 256 clients may send one at a time."""
_WORD_BYTES = 8
_NUMBERS_OF_OPTIONS = 12


class Operation(IntEnum):
    """What a client may ask; the numbers are the protocol's."""

    IS_VALID_PATH = 1
    QUERY_REFERRERS = 6
    ADD_TO_STORE = 7
    ADD_TEXT_TO_STORE = 8
    BUILD_PATHS = 9
    ENSURE_PATH = 10
    ADD_TEMP_ROOT = 11
    ADD_INDIRECT_ROOT = 12
    SYNC_WITH_GC = 13
    FIND_ROOTS = 14
    QUERY_DERIVER = 18
    SET_OPTIONS = 19
    COLLECT_GARBAGE = 20
    QUERY_SUBSTITUTABLE_PATH_INFO = 21
    QUERY_DERIVATION_OUTPUTS = 22
    QUERY_ALL_VALID_PATHS = 23
    QUERY_PATH_INFO = 26
    QUERY_DERIVATION_OUTPUT_NAMES = 28
    QUERY_PATH_FROM_HASH_PART = 29
    QUERY_SUBSTITUTABLE_PATH_INFOS = 30
    QUERY_VALID_PATHS = 31
    QUERY_SUBSTITUTABLE_PATHS = 32
    QUERY_VALID_DERIVERS = 33
    OPTIMISE_STORE = 34
    VERIFY_STORE = 35
    BUILD_DERIVATION = 36
    ADD_SIGNATURES = 37
    NAR_FROM_PATH = 38
    ADD_TO_STORE_NAR = 39
    QUERY_MISSING = 40
    QUERY_DERIVATION_OUTPUT_MAP = 41
    REGISTER_DRV_OUTPUT = 42
    QUERY_REALISATION = 43
    ADD_MULTIPLE_TO_STORE = 44
    ADD_BUILD_LOG = 45
    BUILD_PATHS_WITH_RESULTS = 46
    ADD_PERM_ROOT = 47


_ENDLESS = {
    Operation.ADD_TO_STORE,
    Operation.ADD_TEXT_TO_STORE,
    Operation.BUILD_DERIVATION,
    Operation.ADD_TO_STORE_NAR,
    Operation.ADD_MULTIPLE_TO_STORE,
    Operation.ADD_BUILD_LOG,
}
_ARGUMENTS: dict[int, str] = dict.fromkeys(map(int, set(Operation) - _ENDLESS), "s") | {
    Operation.BUILD_PATHS: "Si",
    Operation.SYNC_WITH_GC: "",
    Operation.FIND_ROOTS: "",
    Operation.SET_OPTIONS: "i" * _NUMBERS_OF_OPTIONS + "P",
    Operation.COLLECT_GARBAGE: "iSiiiii",
    Operation.QUERY_ALL_VALID_PATHS: "",
    Operation.QUERY_SUBSTITUTABLE_PATH_INFOS: "P",
    Operation.QUERY_VALID_PATHS: "Si",
    Operation.QUERY_SUBSTITUTABLE_PATHS: "S",
    Operation.OPTIMISE_STORE: "",
    Operation.VERIFY_STORE: "ii",
    Operation.ADD_SIGNATURES: "sS",
    Operation.QUERY_MISSING: "S",
    Operation.BUILD_PATHS_WITH_RESULTS: "Si",
    Operation.ADD_PERM_ROOT: "ss",
}
"""Of every other operation: i an integer, s a string, S strings, P pairs of strings."""


class Request(NamedTuple):
    """One operation and the strings among its arguments; ``number`` is an Operation or one that is unknown here."""

    number: int
    words: tuple[bytes, ...]
    last: bool

    @property
    def name(self) -> str:
        """Name the operation for an error or a log."""
        return Operation(self.number).name.lower() if self.number in set(Operation) else f"number {self.number}"


class ServerConnection:
    """One client: give ``feed`` what it sends, send it ``take_output``, and answer what ``next_request`` gives."""

    def __init__(self, nix_version: str) -> None:
        self._nix_version = nix_version
        self._received = bytearray()
        self._output = bytearray()
        self._offset = 0
        self._left = MAX_REQUEST_BYTES
        self._between_requests = False
        self._script = self._converse()
        self._step: int | Request = next(self._script)

    @property
    def idle(self) -> bool:
        """Whether the client owes nothing: the greeting is over, and no request has begun."""
        return self._between_requests and not self._received

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._received += data

    def take_output(self) -> bytes:
        """Give what the greeting has to say; to be sent whenever ``next_request`` gave None."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def next_request(self) -> Request | None:
        """Give the next request, None until more is fed; FormatError for what the grammar does not know.

        Not to be called again after a ``last`` request or an error.
        """
        while not isinstance(self._step, Request):
            if len(self._received) < self._step:
                return None
            part = bytes(self._received[: self._step])
            del self._received[: self._step]
            self._step = self._script.send(part)
            self._offset += len(part)
        request, self._step = self._step, next(self._script)
        return request

    def _converse(self) -> Generator[int | Request, bytes, None]:
        """Follow the grammar: yields how many bytes come next, which are sent in, and each request."""
        yield from self._greet()
        while True:
            self._left = MAX_REQUEST_BYTES
            self._between_requests = True
            number = yield from self._integer()
            self._between_requests = False
            arguments = _ARGUMENTS.get(number)
            words: list[bytes] = []
            for kind in arguments or "":
                if kind == "i":
                    yield from self._integer()
                    continue
                count = 1 if kind == "s" else (yield from self._integer()) * (2 if kind == "P" else 1)
                if count * _WORD_BYTES > self._left:
                    raise self._error(f"at most {MAX_REQUEST_BYTES} bytes in a request", f"{count} strings")
                for _ in range(count):
                    words.append((yield from self._string()))  # noqa: PERF401 - a comprehension cannot yield
            yield Request(number, tuple(words), last=arguments is None)

    def _greet(self) -> Generator[int, bytes, None]:
        if (magic := (yield from self._integer())) != CLIENT_MAGIC:
            raise self._error(f"the greeting {CLIENT_MAGIC:#x}", f"{magic:#x}")
        self._output += integer(SERVER_MAGIC) + integer(MAJOR << 8 | MINOR_NEWEST)
        major, minor = divmod((yield from self._integer()), 256)
        if major != MAJOR or minor < MINOR_OLDEST:
            raise self._error(f"protocol version 1.{MINOR_OLDEST} (Nix 2.4) or newer", f"{major}.{minor}")
        if (yield from self._integer()):
            yield from self._integer()
        yield from self._integer()
        if minor >= 33:
            self._output += string(self._nix_version.encode())
        if minor >= 35:
            self._output += integer(_NOT_TRUSTED)
        self._output += integer(LAST)

    def _integer(self) -> Generator[int, bytes, int]:
        self._left -= _WORD_BYTES
        return int.from_bytes((yield _WORD_BYTES), "little")

    def _string(self) -> Generator[int, bytes, bytes]:
        length = yield from self._integer()
        padded = length + -length % _WORD_BYTES
        if length > MAX_STRING_BYTES or padded > self._left:
            expected = f"at most {MAX_STRING_BYTES} bytes in a string and {MAX_REQUEST_BYTES} in a request"
            raise self._error(expected, f"{length}")
        self._left -= padded
        data = yield padded
        if any(data[length:]):
            raise self._error("zeros after a string", quote(data[length:]))
        return data[:length]

    def _error(self, expected: str, found: str) -> FormatError:
        return FormatError("worker protocol", offset=self._offset, expected=expected, found=found)


def integer(value: int) -> bytes:
    """Write an integer."""
    return value.to_bytes(_WORD_BYTES, "little")


def string(data: bytes) -> bytes:
    """Write a string."""
    return integer(len(data)) + data + bytes(-len(data) % _WORD_BYTES)


def strings(words: Iterable[str]) -> bytes:
    """Write strings."""
    encoded = [string(word.encode()) for word in words]
    return integer(len(encoded)) + b"".join(encoded)


def paths(members: Iterable[StorePath]) -> bytes:
    """Write a set of store paths, in Nix's order."""
    return strings(sorted({member.path for member in members}))


def path_info(narinfo: NarInfo | None) -> bytes:
    """Write what is known of a path; None: it is not valid. It was registered at a time that nobody knows: 0."""
    if narinfo is None:
        return integer(0)
    deriver = "" if narinfo.deriver is None else f"{STORE_DIR}/{narinfo.deriver}"
    return b"".join(
        (
            integer(1),
            string(deriver.encode()),
            string(narinfo.nar_hash.hex().encode()),
            paths(narinfo.references),
            integer(0),
            integer(narinfo.nar_size),
            integer(0),  # not "ultimate": it was not built here
            strings(map(str, narinfo.signatures)),
            string((narinfo.ca or "").encode()),
        )
    )


def missing(unknown: Iterable[StorePath]) -> bytes:
    """Write the answer to QUERY_MISSING: nothing would be built or fetched; ``unknown`` paths are not to be had."""
    nothing = strings(())
    return nothing + nothing + paths(unknown) + integer(0) + integer(0)


def success(reply: bytes) -> bytes:
    """Wrap a reply."""
    return integer(LAST) + reply


def failure(message: str) -> bytes:
    """Write an error in place of a reply; its level is Nix's for errors, and it has neither position nor traces."""
    kind = string(b"Error")
    text = string(message.encode(errors="backslashreplace"))  # it may name a file, and that may be no UTF-8
    return integer(ERROR) + kind + integer(0) + kind + text + integer(0) + integer(0)
