"""Where a user's cache, logs and sockets live: the XDG directories, or root's places under /var and /run.

Root uses the system's places even when its environment names XDG directories of a login session, except where a
variable is set on purpose: a test, a container, a service with its own state directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def _place(environ: Mapping[str, str], variable: str, *, root: str, home: str) -> Path:
    """Give narfs's directory in the one that ``variable`` names (absolute, says XDG), or its default."""
    named = environ.get(variable, "")
    if named.startswith("/"):
        return Path(named) / "narfs"
    if os.geteuid() == 0:
        return Path(root) / "narfs"
    return Path(environ.get("HOME") or "/") / home / "narfs"


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Where the chunk cache is kept unless the configuration says otherwise."""
    return _place(environ, "XDG_CACHE_HOME", root="/var/cache", home=".cache")


def log_directory(environ: Mapping[str, str]) -> Path:
    """Where background daemons write their logs."""
    return _place(environ, "XDG_STATE_HOME", root="/var/log", home=".local/state")


def state_directory(environ: Mapping[str, str]) -> Path:
    """Where a daemon keeps what it is to make again after a restart."""
    if named := environ.get("STATE_DIRECTORY"):  # systemd's own word for it: systemd.exec(5)
        return Path(named.partition(":")[0])
    return _place(environ, "XDG_STATE_HOME", root="/var/lib", home=".local/state")


def config_file(environ: Mapping[str, str]) -> Path:
    """Where the user's own configuration file may be."""
    named = environ.get("XDG_CONFIG_HOME", "")
    base = Path(named) if named.startswith("/") else Path(environ.get("HOME") or "/") / ".config"
    return base / "narfs" / "config.toml"


def runtime_directory(environ: Mapping[str, str]) -> Path:
    """Where control sockets are: the login session's directory, /run for root, else one of the user's own in /tmp."""
    named = environ.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/"):
        return Path(named) / "narfs"
    if os.geteuid() == 0:
        return Path("/run/narfs")
    return Path(f"/tmp/narfs-{os.geteuid()}")  # noqa: S108 - private_directory() refuses one that is not ours


def socket_directory(path: Path) -> Path:
    """Make ``path`` a directory only its owner can write to, as ``private_directory`` does.

    Root's may be entered by all, for the sockets in it that are for others too.
    """
    return _own_directory(path, 0o700 if os.geteuid() else 0o755, withheld=0o022)


def private_directory(path: Path) -> Path:
    """Make ``path`` a directory only its owner can enter, and return it; PermissionError if it is somebody else's."""
    return _own_directory(path, 0o700, withheld=0o077)


def _own_directory(path: Path, mode: int, *, withheld: int) -> Path:
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.geteuid() or path.is_symlink():
        raise PermissionError(f"{path} belongs to another user")
    if found.st_mode & withheld:
        path.chmod(found.st_mode & 0o7777 & ~withheld)
    return path
