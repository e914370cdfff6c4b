"""What an HTTP answer means, decided from its status and headers. Pure.

Absent (decision 6): 404 and 410 always. 403 only where nix-cache-info was readable with the same credentials, because
S3 answers 403 for a key that is not there when listing is forbidden, and only if the body is no credential error.

A body lies somewhere in its object: ``BodySpan`` says where. A server may answer a Range with 206 and Content-Range, or
ignore it and answer 200 with everything. Of anything else the bytes cannot be placed, and are not used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from narfs.errors import Corrupt, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

CREDENTIAL_ERRORS = (
    b"AccountProblem",
    b"ExpiredToken",
    b"InvalidAccessKeyId",
    b"InvalidSecurity",
    b"InvalidToken",
    b"NotSignedUp",
    b"RequestExpired",
    b"RequestTimeTooSkewed",
    b"SignatureDoesNotMatch",
    b"TokenRefreshRequired",
)
"""Error codes of S3 that come with 403 and say that the question was not even considered. AccessDenied is not one: it
is what S3 says of a key that is not there."""

MAX_ERROR_BODY_BYTES = 16 * 1024
"""What is read of a 403's body; S3's error documents have less than 1 KiB."""

_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d{1,19})", re.ASCII | re.IGNORECASE)


def means_absent(status: int, body: bytes, *, admitted: bool) -> bool:
    """Whether the object is not there. ``admitted``: nix-cache-info was readable with the same credentials."""
    if status in (404, 410):
        return True
    return status == 403 and admitted and not any(error in body for error in CREDENTIAL_ERRORS)


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """What tells one version of an object from the next; None where the server does not say."""

    etag: str | None
    size: int | None

    @property
    def if_range(self) -> str | None:
        """The value of an If-Range header; only a strong ETag promises equal bytes."""
        return self.etag if self.etag is not None and self.etag.startswith('"') else None

    def joined(self, other: ObjectVersion) -> ObjectVersion:
        """Add what ``other``, of the same version, knows besides."""
        return ObjectVersion(self.etag or other.etag, other.size if self.size is None else self.size)

    def contradicts(self, other: ObjectVersion) -> bool:
        """Whether both cannot be the same version."""
        return any(
            mine is not None and theirs is not None and mine != theirs
            for mine, theirs in ((self.etag, other.etag), (self.size, other.size))
        )


@dataclass(frozen=True, slots=True)
class BodySpan:
    """A body holds bytes ``start`` to ``end`` (exclusive; None: until it ends) of that version of the object."""

    start: int
    end: int | None
    version: ObjectVersion


def place_body(status: int, headers: Mapping[str, str], *, asked: int, what: str) -> BodySpan:
    """Say where the body lies when it was asked for from byte ``asked`` on.

    Its start is never after ``asked``. Unavailable if the bytes cannot be placed, Corrupt if the object ends before.
    """
    etag = headers.get("etag")
    if status == 200:
        length = headers.get("content-length")
        size = int(length) if length is not None and length.isascii() and length.isdigit() else None
        return BodySpan(0, size, ObjectVersion(etag, size))
    content_range = headers.get("content-range", "").strip()
    if status == 416:
        found = _UNSATISFIED.fullmatch(content_range)
        if found and int(found[1]) == asked:
            return BodySpan(asked, asked, ObjectVersion(etag, asked))
        raise Corrupt(f"{what}: byte {asked} was asked for, but it has {found[1] if found else 'fewer'} bytes")
    found = _CONTENT_RANGE.fullmatch(content_range) if status == 206 else None
    if found is None:
        raise Unavailable(f"{what}: cannot place the body of an answer {status} with Content-Range {content_range!r}")
    start, end = int(found[1]), int(found[2]) + 1
    size = None if found[3] == "*" else int(found[3])
    if not start <= asked < end or (size is not None and end > size):
        raise Unavailable(f"{what}: byte {asked} was asked for, and {content_range!r} was answered")
    return BodySpan(start, end, ObjectVersion(etag, size))
