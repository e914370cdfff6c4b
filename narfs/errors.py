"""Every way in which narfs fails, as one tree. No errno here: ``mount/fuse`` translates, once.

::

    NarfsError
    ├── NotFound            it does not exist, and everybody who could know said so
    ├── WrongKind           it exists and is something else
    │   ├── NotADirectory
    │   ├── IsADirectory
    │   └── NotASymlink
    ├── Unavailable         it may exist; a lake, a disk or a peer is in trouble; ask again later
    │   └── TooSlow         a deadline passed; the work itself may go on
    ├── OverQuota           somebody has fetched as much as he may
    ├── Untrusted           no key we trust vouches for it
    ├── Corrupt             bytes differ from what was promised; will not get better by asking again
    ├── FormatError         bytes that are not in their format; knows where
    ├── ReadOnly            somebody tried to change something
    ├── Closing             the mount is going away
    │   └── OwnerGone       the process that a View was to end with has ended before
    ├── CacheUnusable       the cache disk fails; the engine serves uncached, no program sees it
    │   └── CacheHeld       another process owns the cache directory
    └── UsageError          the command line or the configuration asks for something impossible
"""

from __future__ import annotations


class NarfsError(Exception):
    """Base of all expected failures; ``str()`` is one line: what, where, what to do."""

    told = False
    """Whether the log has it already: whoever answers it need not repeat that."""


class NotFound(NarfsError):  # noqa: N818 - the tree reads as sentences; "Error" would say it twice
    """It does not exist, and every upstream that could know said so."""


class WrongKind(NarfsError):  # noqa: N818
    """It exists and is something else than the operation needs."""


class NotADirectory(WrongKind):
    """A directory was needed."""


class IsADirectory(WrongKind):
    """A directory is there where contents were needed."""


class NotASymlink(WrongKind):
    """A symlink was needed."""


class Unavailable(NarfsError):  # noqa: N818
    """A lake, a disk or a peer is in trouble: neither there nor absent; ask again later."""


class TooSlow(Unavailable):
    """A deadline passed before the answer came; the work itself may go on."""


class OverQuota(NarfsError):  # noqa: N818
    """Somebody has fetched as much as he may; what was fetched can still be read."""


class Untrusted(NarfsError):  # noqa: N818
    """No trusted key vouches for it."""


class Corrupt(NarfsError):  # noqa: N818
    """The bytes differ from what was promised for them."""


class FormatError(NarfsError):
    """Bytes that are not in their format.

    ``offset`` counts bytes from the beginning of the parsed thing (for line formats too), ``expected`` and ``found``
    are short printable descriptions; ``found`` never holds more than 80 characters of the stranger's bytes.
    """

    def __init__(self, what: str, *, offset: int, expected: str, found: str) -> None:
        super().__init__(f"{what}: at byte {offset}: expected {expected}, found {found}")
        self.what = what
        self.offset = offset
        self.expected = expected
        self.found = found


class ReadOnly(NarfsError):  # noqa: N818
    """Somebody tried to change something."""


class Closing(NarfsError):  # noqa: N818
    """The mount is going away; nothing new is begun."""


class OwnerGone(Closing):
    """The process that a View was to end with has ended before."""


class CacheUnusable(NarfsError):  # noqa: N818
    """The cache disk fails (full, read-only, I/O error); reads go on uncached."""


class CacheHeld(CacheUnusable):
    """Another live process owns the cache directory; ``pid`` is its process id, 0 if it could not be learned."""

    def __init__(self, message: str, *, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class UsageError(NarfsError):
    """The command line or the configuration asks for something impossible."""


def again(error: NarfsError) -> NarfsError:
    """Copy an error for one more waiter: an instance raised by many tasks grows its traceback with each of them."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy
