"""A root directory of one's own, in which /nix/store is a View: for machines where nobody may or wants to make /nix.

Two mount namespaces, so that the daemon keeps the host's /nix/store (its interpreter may live there)::

    A  the host's mounts + the View on a private directory     the daemon
    B  a copy of A, where /nix/store is that View              the program

Both vanish with their last process, and with them every mount made here; nothing is ever written to the host.
Without privileges a user namespace comes first; it maps only the caller, to itself, so that programs see the same user.
"""

from __future__ import annotations

import os
from pathlib import Path

from narfs.daemon import linux
from narfs.errors import Unavailable

STORE = "/nix/store"


def enter_private_mounts() -> None:
    """Put this process (one thread) into a mount namespace whose mounts nobody outside sees."""
    user, group = os.geteuid(), os.getegid()
    try:
        try:
            linux.unshare(linux.CLONE_NEWNS)
        except PermissionError:
            linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
            # A gid map may be written only by one who cannot drop groups any more: user_namespaces(7).
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        # Slave, not private: what the host mounts later still shows up here.
        linux.mount("none", "/", flags=linux.MS_REC | linux.MS_SLAVE)
    except OSError as error:
        raise Unavailable(
            f"cannot make a mount namespace: {error.strerror}; allow user namespaces"
            " (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns) or run as root"
        ) from error


def show_as_store(view: str) -> None:
    """Make ``view``, a directory, appear on /nix/store for this process and its children.

    Needs ``enter_private_mounts``. Where the host has no /nix/store, the root directory is replaced by a tmpfs with
    every directory of the old root bound into it; the working directory stays.
    """
    try:
        linux.unshare(linux.CLONE_NEWNS)
        if Path(STORE).is_dir():
            linux.bind(view, STORE)
        else:
            _replace_root(view)
    except OSError as error:
        raise Unavailable(f"cannot show the View on {STORE}: {error.filename or ''}: {error.strerror}") from error


def _replace_root(view: str) -> None:
    working = Path.cwd()
    base = str(Path(view).resolve())
    linux.mount("narfs", base, kind="tmpfs", flags=linux.MS_NOSUID | linux.MS_NODEV, options="mode=0755")
    _mirror(Path("/"), Path(base), leave_out="nix")
    # The mirror of the base's directory shows this tmpfs once more, and the View beneath it.
    linux.unmount(base + base, linux.MNT_DETACH)
    nix = Path(base, "nix")
    nix.mkdir()
    if Path("/nix").is_dir():
        _mirror(Path("/nix"), nix, leave_out="store")
    store = Path(base + STORE)
    store.mkdir()
    linux.mount(base + base, str(store), flags=linux.MS_MOVE)
    linux.mount("none", base, flags=linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)
    # Move and chroot, as switch_root(8) does: pivot_root(2) has no wrapper in libc and a number per architecture.
    os.chdir(base)
    linux.mount(base, "/", flags=linux.MS_MOVE)
    os.chroot(".")
    os.chdir(working if working.is_dir() else "/")


def _mirror(source: Path, target: Path, *, leave_out: str) -> None:
    """Make every entry of ``source`` but one appear in ``target``, a directory of ours."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.name == leave_out:
            continue
        if entry.is_symlink():
            place.symlink_to(entry.readlink())
        elif entry.is_dir():
            place.mkdir()
            linux.bind(str(entry), str(place))
        else:
            place.touch()
            linux.bind(str(entry), str(place))
