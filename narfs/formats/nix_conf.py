"""nix.conf, as far as narfs follows it.

::

    line    = [ words ] [ "#" comment ]
    words   = key "=" value…            words between white space; a value's words are joined by one space
            | "extra-" key "=" value…   appends to a list
            | "include" path            must exist
            | "!include" path           may be absent

Lines count in their order, included ones in the place of their ``include``, relative to the file that names them. As in
Nix an ``extra-`` line appends to what is set so far, to the default if nothing is, and a plain line replaces that too.
Settings that narfs does not use are skipped, whatever their value; ``trusted-substituters`` is one of them: it says
which substituters a Nix user may add, not which to use.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from narfs.errors import FormatError
from narfs.formats.quote import quote
from narfs.formats.signature import CACHE_NIXOS_ORG_KEY, PublicKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYSTEM_NIX_CONF = "/etc/nix/nix.conf"
MAX_INCLUDE_DEPTH = 16
"""A file that includes itself ends here; Nix itself runs out of stack."""

_ALIASES = {"binary-caches": "substituters", "binary-cache-public-keys": "trusted-public-keys"}
"""Names from before Nix 2.0 that every Nix still reads."""


@dataclass(frozen=True, slots=True)
class NixConf:
    """The settings narfs uses; without arguments what Nix does when nobody says anything.

    ``ssl_cert_file`` None leaves it to the environment and the system's certificates.
    """

    substituters: tuple[str, ...] = ("https://cache.nixos.org/",)
    trusted_public_keys: PublicKeys = field(default=PublicKeys((CACHE_NIXOS_ORG_KEY,)))
    netrc_file: str = "/etc/nix/netrc"
    ssl_cert_file: str | None = None
    store: str = "auto"

    @classmethod
    def parse(
        cls,
        text: str,
        include: Callable[[str, bool], str | None],
        *,
        path: str = SYSTEM_NIX_CONF,
        base: NixConf | None = None,
    ) -> NixConf:
        """Read one file on top of ``base`` (Nix reads the system's, then the user's, then NIX_CONFIG).

        ``include(path, required)`` gives the text of an included file, None if there is none; ``path`` is where
        ``text`` comes from, for relative includes and errors.
        """
        conf = cls() if base is None else base
        for origin, offset, key, value in _settings(text, include, path, depth=0):
            try:
                conf = _with(conf, key, value)
            except FormatError as error:
                expected = f"{key}: {error.expected}"
                raise FormatError(origin, offset=offset, expected=expected, found=error.found) from error
        return conf


def _with(conf: NixConf, key: str, value: str) -> NixConf:
    plain = key.removeprefix("extra-")
    appends = plain != key
    match _ALIASES.get(plain, plain):
        case "substituters":
            before = conf.substituters if appends else ()
            return replace(conf, substituters=(*before, *value.split()))
        case "trusted-public-keys":
            keys = conf.trusted_public_keys.keys if appends else ()
            return replace(conf, trusted_public_keys=PublicKeys((*keys, *PublicKeys.parse(value))))
        case "netrc-file" if not appends:
            return replace(conf, netrc_file=value)
        case "ssl-cert-file" if not appends:
            return replace(conf, ssl_cert_file=value or None)
        case "store" if not appends:
            return replace(conf, store=value)
        case _:
            return conf


def _settings(
    text: str, include: Callable[[str, bool], str | None], path: str, *, depth: int
) -> Iterator[tuple[str, int, str, str]]:
    """Give every ``key = value`` as its file, the byte offset of its line, key and value, through all includes."""
    offset = 0
    for line in text.split("\n"):
        match line.partition("#")[0].split():
            case []:
                pass
            case ["include" | "!include" as keyword, relative]:
                target = posixpath.join(posixpath.dirname(path), relative)
                if depth == MAX_INCLUDE_DEPTH:
                    expected = f"at most {MAX_INCLUDE_DEPTH} files that include each other"
                    raise FormatError(path, offset=offset, expected=expected, found=quote(line))
                included = include(target, keyword == "include")
                if included is not None:
                    yield from _settings(included, include, target, depth=depth + 1)
                elif keyword == "include":
                    raise FormatError(path, offset=offset, expected=f"a file {quote(target)}", found="none")
            case [key, "=", *words]:
                yield path, offset, key, " ".join(words)
            case _:
                raise FormatError(path, offset=offset, expected="'key = value' or 'include path'", found=quote(line))
        offset += len(line.encode(errors="replace")) + 1
