"""StoreUrl: which lake, and which names lie inside it. Pure: nothing is opened or resolved.

::

    store URL = "file://" path, "/" path, "http://" …, "https://" …, "s3://" bucket, then optionally "?" parameters
    path      = percent-decoded after "file://", literal when it begins with "/" (then it cannot hold a "?")
    bucket    = its name, then optionally "/" and a prefix of keys; its parameters are those of ``s3_address``

Parameters that narfs understands, in Nix's spelling except the last: ``priority``, ``trusted``, ``optional`` (a dead
lake counts as absent). All others are kept for who understands them (``compression``, ``secret-key``, …).

The URL of a narinfo is not covered by its signature, so a lake could make the daemon ask anybody for anything. It names
an object inside its own lake or the narinfo does not count: relative without any ``..`` (percent-encoded or not), or
absolute and beginning with the lake's own URL. A query stays with it. Nix 2.8 to 2.34 only ever write relative ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from narfs.errors import Untrusted, UsageError
from narfs.lake.s3_address import S3Address

if TYPE_CHECKING:
    from urllib.parse import SplitResult

S3_NEEDS = "S3 needs the obstore package: pip install 'narfs[s3]'"
_SCHEMES = "file://, http://, https://, s3://"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"", "0", "false", "no"})
_NOT_IN_A_NAME = re.compile(r"[\x00-\x20\x7f\\#]")
_NOT_IN_A_SEGMENT = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """One lake's address. ``str()`` is its canonical text, without parameters and credentials: fit for logs."""

    scheme: str
    netloc: str
    """Host and port as in a URL, lower case, the scheme's own port left out; a bucket; empty for ``file``."""
    path: str
    """For ``file`` the directory itself; else still percent-encoded, and without a final slash."""
    priority: int | None = None
    trusted: bool = False
    optional: bool = False
    parameters: tuple[tuple[str, str], ...] = ()
    userinfo: tuple[str, str] | None = field(default=None, repr=False)
    """User name and password given in the URL itself."""

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Read a store URL; UsageError says what is wrong with it."""
        if text.startswith("/"):
            path, _, query = text.partition("?")
            return cls("file", "", _directory(path), **_parameters(query, text))
        if _NOT_IN_A_NAME.search(text):
            raise UsageError(
                f"{text!r} is no store URL: percent-encode spaces and control characters, leave out any '#'"
            )
        try:
            split = urlsplit(text)
            netloc = _canonical_netloc(split)
        except ValueError as error:
            raise UsageError(f"{text} is no store URL: {error}") from error
        if "://" not in text or split.scheme not in ("file", "s3", *_DEFAULT_PORTS):
            scheme = split.scheme or text
            raise UsageError(f"{scheme!r} is no kind of store that narfs can read: give {_SCHEMES} or an absolute path")
        parameters = _parameters(split.query, text)
        if split.scheme == "file":
            if split.netloc not in ("", "localhost") or not split.path:
                raise UsageError(f"{text}: a file store has three slashes: file:///directory")
            return cls("file", "", _directory(unquote(split.path)), **parameters)
        if split.scheme == "s3":
            S3Address.parse(split.netloc, split.path, dict(parameters["parameters"]), what=text)
            return cls("s3", split.netloc, split.path.rstrip("/"), **parameters)
        if not netloc:
            raise UsageError(f"{text}: has no host name")
        return cls(split.scheme, netloc, split.path.rstrip("/"), **parameters, userinfo=_userinfo(split))

    @property
    def is_s3(self) -> bool:
        """Whether the lake is a bucket."""
        return self.scheme == "s3"

    @property
    def is_file(self) -> bool:
        """Whether the lake is a directory."""
        return self.scheme == "file"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{quote(self.path) if self.is_file else self.path}"

    def has_same_origin(self, url: str) -> bool:
        """Whether ``url`` is asked of the same server in the same way: scheme, host and port."""
        try:
            split = urlsplit(url)
            return (split.scheme, _canonical_netloc(split)) == (self.scheme, self.netloc)
        except ValueError:
            return False

    def name_of(self, url: str) -> str:
        """Give the name inside this lake that the URL of a narinfo means; Untrusted if it leads out of the lake."""
        name = url.removeprefix(f"{self}/")
        path = name.partition("?")[0] if self.scheme in _DEFAULT_PORTS else name
        if "://" in path or path.startswith("/"):
            raise Untrusted(f"{self}: a narinfo points to {url!r}, outside of the lake")
        segments = unquote(path).split("/")
        odd = _NOT_IN_A_NAME.search(name) or any(_NOT_IN_A_SEGMENT.search(segment) for segment in segments)
        if odd or not {"", ".", ".."}.isdisjoint(segments):
            raise Untrusted(f"{self}: a narinfo points to {url!r}, which is no plain name inside the lake")
        return name


def _directory(path: str) -> str:
    if "\0" in path:
        raise UsageError(f"{path!r}: the directory of a store has no NUL in its name")
    return path.rstrip("/") or "/"


def _canonical_netloc(split: SplitResult) -> str:
    host = split.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return host if split.port in (None, _DEFAULT_PORTS.get(split.scheme)) else f"{host}:{split.port}"


def _userinfo(split: SplitResult) -> tuple[str, str] | None:
    return None if split.username is None else (unquote(split.username), unquote(split.password or ""))


class _Parameters(TypedDict):
    priority: int | None
    trusted: bool
    optional: bool
    parameters: tuple[tuple[str, str], ...]


def _parameters(query: str, text: str) -> _Parameters:
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    priority = pairs.pop("priority", None)
    if priority is not None and not (priority.isascii() and priority.isdigit() and len(priority) < 10):
        raise UsageError(f"{text}: priority is a number, found {priority!r}")
    return {
        "priority": None if priority is None else int(priority),
        "trusted": _flag(pairs, "trusted", text),
        "optional": _flag(pairs, "optional", text),
        "parameters": tuple(pairs.items()),
    }


def _flag(pairs: dict[str, str], key: str, text: str) -> bool:
    value = pairs.pop(key, "0").lower()
    if value not in _TRUE | _FALSE:
        raise UsageError(f"{text}: {key} is 1 or 0, found {value!r}")
    return value in _TRUE
