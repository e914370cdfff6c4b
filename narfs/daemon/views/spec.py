"""What somebody wants to see, where, from which stores: said on the control socket, and kept on disk for a restart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from narfs.daemon.config import with_settings
from narfs.daemon.selection import PathName, Selection
from narfs.errors import UsageError
from narfs.formats.profile import checked_profile_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from narfs.daemon.config import Config

N = TypeVar("N", int, float)

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}")

OWN_SETTINGS: Final = frozenset(
    {
        "store",
        "index-stores",
        "trusted-public-keys",
        "trusted-index-keys",
        "verify",
        "frontend",
        "netrc-file",
        "ssl-cert-file",
        "read-deadline",
        "stall-deadline",
        "root-lookup-deadline",
        "negative-ttl",
        "fetch-bytes",
        "prefetch-bytes",
        "bandwidth",
        "bandwidth-share",
        "profile",
        "profile-store",
    }
)
"""Keys of the configuration that a View may have for itself; the cache is everybody's."""


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """A View to be. ``at`` is where its directory is bound to, None: it is seen in the daemon's own directory only."""

    name: str
    selection: Selection
    at: Path | None = None
    nix_socket: Path | None = None
    """Where Nix may ask what is known of its paths."""
    settings: Mapping[str, object] = field(default_factory=dict)
    profile: str | None = None
    """Under which name what is read of it is kept, if its settings do not say; None: its paths tell."""
    owner_pid: int | None = None
    """The View ends with this process."""
    owner_started: int | None = None
    """When that process started, in the kernel's ticks: another one of its number is not it."""
    lease_s: float | None = None
    """The View ends if nobody renews it for so long."""

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> ViewSpec:
        """Read what a client said, or what was kept; UsageError says which member is impossible."""
        if not isinstance(told, dict):
            raise UsageError("view: expected an object")
        unknown = told.keys() - _MEMBERS
        if unknown:
            raise UsageError(f"view: unknown member {min(unknown)!r}")
        name = checked_name(told.get("name"))
        paths, closures = _texts(told, "paths"), _texts(told, "closures")
        selection = Selection(
            closed=bool(told.get("closed", True)),
            paths=tuple(map(PathName.parse, paths)),
            closures=tuple(map(PathName.parse, closures)),
            allow_missing=bool(told.get("allow_missing", False)),
        )
        if not selection.closed and (paths or closures):
            raise UsageError(f"view {name}: an open view shows everything; it takes no paths")
        return cls(
            name=name,
            selection=selection,
            at=_place(told, "at"),
            nix_socket=_place(told, "nix_socket"),
            settings=_settings(told.get("settings", {})),
            profile=_profile(told.get("profile")),
            owner_pid=_positive(told, "owner_pid", int),
            owner_started=_positive(told, "owner_started", int),
            lease_s=_positive(told, "lease_s", float),
        )

    def to_json(self) -> dict[str, object]:
        """Write it so that ``from_json`` gives the same."""
        selection = self.selection
        return {
            "name": self.name,
            "closed": selection.closed,
            "paths": [_written(name) for name in selection.paths],
            "closures": [_written(name) for name in selection.closures],
            "allow_missing": selection.allow_missing,
            "at": None if self.at is None else str(self.at),
            "nix_socket": None if self.nix_socket is None else str(self.nix_socket),
            "settings": dict(self.settings),
            "profile": self.profile,
            "owner_pid": self.owner_pid,
            "owner_started": self.owner_started,
            "lease_s": self.lease_s,
        }

    def config(self, common: Config) -> Config:
        """Lay what this View has for itself over what all have."""
        return with_settings(common, self.settings, origin=f"view {self.name}")

    @property
    def ends(self) -> bool:
        """Whether it ends by itself: with a process, or a lease."""
        return self.owner_pid is not None or self.lease_s is not None

    def with_owner_known(self) -> ViewSpec:
        """Note which process the owner is, if that is not known yet."""
        if self.owner_pid is None or self.owner_started is not None:
            return self
        return replace(self, owner_started=started(self.owner_pid))


def started(pid: int) -> int | None:
    """Tell when a process started, in the kernel's ticks since boot; None if there is none."""
    try:
        told = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in parentheses, and may hold anything: proc_pid_stat(5).
    return int(told.rpartition(b")")[2].split()[19])


_PLACES: Final = ("at", "nix_socket")
_ENDS: Final = ("owner_pid", "owner_started", "lease_s")
_MEMBERS: Final = {"name", "paths", "closures", "closed", "allow_missing", "settings", "profile", *_PLACES, *_ENDS}


def checked_name(name: object) -> str:
    """Give a View's name back; UsageError if it is none."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"view name {name!r}: expected 1 to 64 letters, digits and ._+-, not beginning with .+-")
    return name


def _texts(told: Mapping[str, Any], member: str) -> list[str]:
    texts = told.get(member, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"view: {member}: expected a list of texts")
    return texts


def _place(told: Mapping[str, Any], member: str) -> Path | None:
    place = told.get(member)
    if place is None:
        return None
    if not isinstance(place, str) or not place.startswith("/") or "\0" in place:
        raise UsageError(f"view: {member}: expected an absolute path")
    return Path(place)


def _profile(told: object) -> str | None:
    if told is None:
        return None
    if not isinstance(told, str):
        raise UsageError("view: profile: expected a name")
    return checked_profile_name(told)


def _settings(told: object) -> Mapping[str, object]:
    if not isinstance(told, dict):
        raise UsageError("view: settings: expected an object")
    if foreign := told.keys() - OWN_SETTINGS:
        raise UsageError(
            f"view: settings: {min(foreign)!r} is not a view's own; those are {', '.join(sorted(OWN_SETTINGS))}"
        )
    return told


def _positive(told: Mapping[str, Any], member: str, kind: type[N]) -> N | None:
    value = told.get(member)
    if value is not None and (type(value) not in (int, kind) or not 0 < value < 2**63):
        raise UsageError(f"view: {member}: expected a number greater than 0")
    return None if value is None else kind(value)


def _written(name: PathName) -> str:
    path = name.hash_part if name.path is None else name.path.path
    return f"{path}/{name.below}" if name.below else path
