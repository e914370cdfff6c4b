"""What object_store's failures mean, read from their text. Pure.

Its exceptions are coarse (a missing bucket and a missing key are both FileNotFoundError), but their text holds all of
the answer: status, the XML document of S3 with its error code, or the operating system's message. That text is no
promise of object_store's: what is not recognized is Unavailable with its first line, and the tests hold the rest
against a real server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlsplit

from narfs.errors import NarfsError, NotFound, TooSlow, Unavailable
from narfs.lake.answer import means_absent

_ANSWER = re.compile(r"non-2xx status code: (\d{3})[^:]*: (.*?)(?:\n\nDebug source:|\Z)", re.DOTALL)
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_REGION = re.compile(r"(?:<Region>|expecting &#34;|expecting ')([a-z0-9-]+)")
_SIZE = re.compile(r"<ActualObjectSize>(\d{1,19})</ActualObjectSize>")
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"')
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
_SUMMARY = re.compile(r"(?:Generic S3 error: )?(?:Error performing .*? - )?([^\n]*)")

_NO_LOCATION = "redirect without LOCATION"
"""AWS's answer to a wrong region: 301, and nowhere to go."""

_ABSENT_CODES = frozenset({"", "NoSuchKey", "NoSuchVersion"})
"""What a 404 says of a key; every other code is about something larger, a bucket or an account."""

_HINTS = {
    "AccessDenied": "{origin} may not do that here: check the bucket's policy",
    "AuthorizationHeaderMalformed": "the bucket is in another region: give ?region={region}",
    "ExpiredToken": "the credentials of {origin} have expired: get new ones",
    "IllegalLocationConstraintException": "the bucket is in another region: give ?region={region}",
    "InvalidAccessKeyId": "there is no such access key as that of {origin}",
    "InvalidToken": "the session token of {origin} is not valid: get a new one",
    "NoSuchBucket": "there is no such bucket: check its name and the endpoint",
    "PermanentRedirect": "the bucket is in another region: give ?region={region}",
    "PreconditionFailed": "it changed while it was read: ask again",
    "RequestExpired": "the credentials of {origin} have expired: get new ones",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "SignatureDoesNotMatch": "the secret key of {origin} does not fit its access key",
    "TokenRefreshRequired": "the credentials of {origin} have expired: get new ones",
    "XAdminUserNotFound": "there is no such access key as that of {origin}",  # versitygw; with a 404
}
_NOBODY_HINT = "it is not public, and no credentials were found: give ?profile=, or set AWS_ACCESS_KEY_ID"
_ASKED = re.compile(r"Error performing [A-Z]+ (\S+) in ")
_CREDENTIAL_SOURCES = ("AssumeRoleWithWebIdentity", "AWS credential provider")


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose request it was, and the server that the bucket is at."""

    origin: str
    is_nobody: bool
    endpoint: str


@dataclass(frozen=True, slots=True)
class S3Failure:
    """One failure of object_store's; ``status`` is None where there was no answer."""

    status: int | None
    body: str
    text: str

    @classmethod
    def read(cls, text: str) -> S3Failure:
        """Take apart the text of an exception."""
        answer = _ANSWER.search(text)
        return cls(None, "", text) if answer is None else cls(int(answer[1]), answer[2], text)

    @property
    def code(self) -> str:
        """S3's name for it; empty if there is none, as in every answer to a HEAD."""
        return _first(_CODE, self.body)

    @property
    def object_size(self) -> int | None:
        """How large the object is, if that is known because a range lies behind its end."""
        found = _first(_SIZE, self.body)
        return int(found) if found and self.status == 416 else None

    def meaning(self, what: str, asker: Asker, *, admitted: bool) -> NarfsError:
        """Say what it means for ``what``. ``admitted``: nix-cache-info was readable with the same credentials."""
        if self._came_before(asker):
            return Unavailable(f"{what}: cannot get credentials from {asker.origin}: {self.reason}")
        if self._is_absent(admitted):
            return NotFound(f"{what}: is not there")
        kind = TooSlow if self._is_silence else Unavailable
        return kind(f"{what}: {self._explanation(asker)}")

    def _came_before(self, asker: Asker) -> bool:
        """Whether the bucket was not asked at all, because credentials could not be had."""
        asked = _first(_ASKED, self.text)
        elsewhere = asked != "" and _server(asked) != _server(asker.endpoint)
        return elsewhere or any(source in self.text for source in _CREDENTIAL_SOURCES)

    def _explanation(self, asker: Asker) -> str:
        if _NO_LOCATION in self.text:
            return "the bucket is in another region: give the right ?region="
        if self.code == "AccessDenied" and asker.is_nobody:
            return _NOBODY_HINT
        if hint := _HINTS.get(self.code):
            region = _first(_REGION, self.body) or "the right one"
            return f"{hint.format(origin=asker.origin, region=region)} ({self.code})"
        return self.reason if self.status is None else f"answered {self.status} {self.reason}".rstrip()

    def _is_absent(self, admitted: bool) -> bool:
        if self.status == 404:
            return self.code in _ABSENT_CODES
        return self.status is not None and means_absent(self.status, self.body.encode(), admitted=admitted)

    @property
    def reason(self) -> str:
        """Say in a few words what went wrong, as whoever noticed it put it."""
        if self.code:
            return f"{self.code}: {unescape(_first(_MESSAGE, self.body))}"
        if self.status is not None:
            return self.body.strip().partition("\n")[0][:200]
        if certificate := _first(_CERTIFICATE, self.text):
            return f"its certificate is not trusted ({certificate}): see ssl-cert-file"
        if self._is_silence:
            return "nothing came within the deadline"
        causes = _CAUSE.findall(self.text)
        return causes[-1] if causes else _first(_SUMMARY, self.text)

    @property
    def _is_silence(self) -> bool:
        return self.status is None and "kind: Timeout" in self.text


def _server(url: str) -> tuple[str | None, int | None]:
    """Give host and port in one spelling, however the URL has them."""
    try:
        split = urlsplit(url)
        return split.hostname, split.port or {"http": 80, "https": 443}.get(split.scheme)
    except ValueError:
        return None, None


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return "" if found is None else found[1]
