"""Config: everything a daemon is told, as one frozen value that is valid from birth.

A key has one name everywhere: ``cache-size`` in the TOML file is ``--cache-size`` on the command line and
``Config.cache_size`` here. ``KEYS`` is the list, and the only place that reads a value from text or TOML.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from narfs.daemon.profiles.naming import AUTO
from narfs.daemon.sizes import Size
from narfs.engine.trust import Verify
from narfs.errors import NarfsError, UsageError
from narfs.formats.profile import checked_profile_name
from narfs.formats.signature import CACHE_NIXOS_ORG_KEY, PublicKeys
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


PREFETCH_BYTES: Final = Size(bytes=1024**3)
"""By default. What is brought is what a profile or a program names, so it bounds mistakes."""


class Frontend(StrEnum):
    """How the kernel is given a View."""

    AUTO = "auto"
    """EROFS where it can be had at once, else the tree."""
    TREE = "tree"
    """FUSE directories."""
    EROFS = "erofs"
    """The kernel's own EROFS, over one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a daemon is told; every field has a default except where the cache lives."""

    cache_dir: Path
    store: tuple[str, ...] = ("https://cache.nixos.org",)
    """Lakes, as Nix writes them; asked by Priority, then in this order."""
    index_stores: tuple[str, ...] = ()
    """Lakes that are asked for the sealed indexes of paths that others have, in this order."""
    trusted_public_keys: PublicKeys = field(default=PublicKeys((CACHE_NIXOS_ORG_KEY,)))
    trusted_index_keys: PublicKeys = field(default=PublicKeys())
    """Keys whose sealed indexes count; of nobody by default."""
    verify: Verify = Verify.STRICT
    frontend: Frontend = Frontend.AUTO
    cache_size: Size | None = None
    """Budget of the cache; None means the lesser of 20 GiB and 10 % of its disk."""
    keep_free: Size = field(default=Size(percent=5))
    """What the cache never takes of its disk."""
    read_deadline_s: float = 120.0
    """Bounds one read or lookup of a program, not the fetch behind it, which goes on."""
    stall_deadline_s: float = 30.0
    """Bounds the time without any progress of a fetch, not its whole length."""
    root_lookup_deadline_s: float = 5.0
    """Bounds a lookup in the root of an open View, where the kernel lets every other lookup wait for it."""
    negative_ttl_s: float = 60.0
    """How long a store path's absence is believed in an open View."""
    netrc_file: Path | None = None
    ssl_cert_file: Path | None = None

    fetch_bytes: Size | None = None
    """What may be fetched for one View, or one process that has none; None: as much as is wanted."""
    prefetch_bytes: Size = PREFETCH_BYTES
    """What may be fetched for one View before anybody asks for it; 0: nothing."""
    bandwidth: Size | None = None
    """Bytes a second: of the process, and of a View that says so itself."""
    profile: str = AUTO
    """Under which name a View learns what is read of it: ``auto`` finds one, ``none`` learns nothing."""
    profile_store: str | None = None
    """A lake that is asked for profiles of which none is kept here."""
    bandwidth_share: int = 1
    """What a View gets of the process's bandwidth, in relation to others that want it at the same time."""

    @property
    def of_all(self) -> Config:
        """It without what concerns one View alone."""
        return replace(
            self,
            frontend=Frontend.AUTO,
            fetch_bytes=None,
            prefetch_bytes=PREFETCH_BYTES,
            bandwidth=None,
            bandwidth_share=1,
            profile=AUTO,
        )

    @property
    def lake_settings(self) -> LakeSettings:
        """What of it the stores are asked with."""
        return LakeSettings(
            stall_deadline_s=self.stall_deadline_s,
            negative_ttl_s=self.negative_ttl_s,
            netrc_file=self.netrc_file,
            ssl_cert_file=self.ssl_cert_file,
        )

    def cache_bytes(self, disk_bytes: int) -> int:
        """Give the cache's budget on a disk of ``disk_bytes``."""
        if self.cache_size is None:
            return min(20 * 1024**3, disk_bytes // 10)
        return self.cache_size.of(disk_bytes)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text that is not empty")
    return value


def _words(value: object) -> tuple[str, ...]:
    """Read a list of texts, or one text of words separated by spaces as nix.conf has it."""
    if isinstance(value, str):
        return tuple(value.split())
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def _stores(value: object) -> tuple[str, ...]:
    if not (stores := _index_stores(value)):
        raise ValueError("at least one store URL")
    return stores


def _index_stores(value: object) -> tuple[str, ...]:
    stores = _words(value)
    for store in stores:
        StoreUrl.parse(store)
    return stores


def _public_keys(value: object) -> PublicKeys:
    return PublicKeys.parse(" ".join(_words(value)))


def _verify(value: object) -> Verify:
    try:
        return Verify(_text(value))
    except ValueError:
        raise ValueError("strict or progressive") from None


def _frontend(value: object) -> Frontend:
    try:
        return Frontend(_text(value))
    except ValueError:
        raise ValueError("auto, tree or erofs") from None


def _path(value: object) -> Path:
    """Read a path; it must not depend on the directory a daemon happens to start in."""
    path = Path(value if isinstance(value, Path) else _text(value)).expanduser()
    if not path.is_absolute():
        raise ValueError("an absolute path")
    return path


def _size(value: object) -> Size:
    return Size(bytes=value) if isinstance(value, int) and value >= 0 else Size.parse(_text(value))


def _bytes(value: object) -> Size:
    size = _size(value)
    if size.percent is not None or not size.bytes:
        raise ValueError("a number of bytes such as 500M")
    return size


def _profile(value: object) -> str:
    return checked_profile_name(_text(value))


def _store(value: object) -> str:
    store = _text(value)
    StoreUrl.parse(store)
    return store


def _bytes_or_none(value: object) -> Size:
    return Size(bytes=0) if value in (0, "0") and value is not False else _bytes(value)


def _share(value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise ValueError("a number from 1 to 1000")
    return int(text)


def _seconds(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 10**6:
        raise ValueError("a number of seconds greater than 0")
    return seconds


KEYS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "cache-dir": ("cache_dir", _path),
    "store": ("store", _stores),
    "index-stores": ("index_stores", _index_stores),
    "trusted-public-keys": ("trusted_public_keys", _public_keys),
    "trusted-index-keys": ("trusted_index_keys", _public_keys),
    "verify": ("verify", _verify),
    "frontend": ("frontend", _frontend),
    "cache-size": ("cache_size", _size),
    "keep-free": ("keep_free", _size),
    "read-deadline": ("read_deadline_s", _seconds),
    "stall-deadline": ("stall_deadline_s", _seconds),
    "root-lookup-deadline": ("root_lookup_deadline_s", _seconds),
    "negative-ttl": ("negative_ttl_s", _seconds),
    "netrc-file": ("netrc_file", _path),
    "ssl-cert-file": ("ssl_cert_file", _path),
    "fetch-bytes": ("fetch_bytes", _bytes),
    "prefetch-bytes": ("prefetch_bytes", _bytes_or_none),
    "bandwidth": ("bandwidth", _bytes),
    "profile": ("profile", _profile),
    "profile-store": ("profile_store", _store),
    "bandwidth-share": ("bandwidth_share", _share),
}
"""Every key: the field it sets and the reader of its value, which raises ValueError saying what it expected."""


def with_settings(config: Config, settings: Mapping[str, object], *, origin: str) -> Config:
    """Return ``config`` with ``settings`` laid over it; UsageError names ``origin`` and key of what is impossible."""
    fields: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in KEYS:
            alike = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {alike[0]}?" if alike else f"known are {', '.join(sorted(KEYS))}"
            raise UsageError(f"{origin}: unknown key {key!r}; {hint}")
        field, read = KEYS[key]
        try:
            fields[field] = read(value)
        except ValueError as error:
            raise UsageError(f"{origin}: {key}: expected {error}, found {value!r}") from error
        except NarfsError as error:
            raise UsageError(f"{origin}: {key}: {error}") from error
    return replace(config, **fields)
