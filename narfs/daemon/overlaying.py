"""``narfs overlay``: a writable store for Nix, its lower layer a closed View.

Open Views are refused: overlayfs remembers a name that was not there, and would go on denying a path that appears.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from narfs.daemon import control, linux
from narfs.daemon.asking import all_status
from narfs.daemon.overlays import overlay_at
from narfs.daemon.views.asking import ask, facts
from narfs.errors import NarfsError, Unavailable, UsageError
from narfs.formats.store_path import STORE_DIR
from narfs.mount.mounted import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE = "overlay"
"""What Nix looks for in /proc/self/mounts (check-mount of local-overlay)."""
_SPECIAL = ",:\\"
"""Overlayfs would take these characters in its options for separators."""
_KEPT_FLAGS = linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


class Lower(NamedTuple):
    """A closed View: where its files are, and what Nix has to be told of them."""

    directory: str
    registration: str


def mounted(mountpoint: Path, runtime: Path) -> Lower:
    """Find the View that ``narfs mount`` shows there; UsageError if it is open, NotFound."""
    place = place_of(mountpoint)
    (told,) = all_status(runtime, mountpoint)
    _check_closed(place, closed=told["mount"]["closed"])
    return Lower(place, control.ask(control.socket_path(runtime, place, told["mount"]["pid"]), "registration"))


def kept(name: str, environ: Mapping[str, str]) -> Lower:
    """Find the View of this name that ``narfs daemon`` keeps; UsageError if it is open, NotFound, Unavailable."""
    told = facts(name, environ)
    if told["frontend"] == "none":
        raise Unavailable(f"view {name}: {told['frontend_because']}; narfs view remove {name}, and create it anew")
    _check_closed(f"view {name}", closed=told["closed"])
    return Lower(told["directory"], ask("view-registration", {"name": name}, environ=environ))


def _check_closed(what: str, *, closed: bool) -> None:
    if not closed:
        raise UsageError(
            f"{what}: an open View, and what it does not have today may be there tomorrow, which an overlay"
            " would never show; make it with --closure"
        )


class Layers(NamedTuple):
    """What lies on what, as absolute paths."""

    lower: str
    upper: str
    work: str

    @classmethod
    def of(cls, lower: str, upper: str) -> Layers:
        """Name the layers; the work directory must be on the file system of ``upper``, so it lies beside it."""
        for path in (lower, upper):
            if found := set(path) & set(_SPECIAL):
                raise UsageError(f"{path}: overlayfs does not take a directory with {min(found)!r} in its name")
        return cls(lower, upper, f"{upper}.work")

    def options(self) -> str:
        """Write them as the options of the mount."""
        return f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work}"


def create(place: Path, lower: Lower, *, upper: Path, register: bool) -> None:
    """Mount the overlay on ``place``, which is made if it is missing.

    With ``register`` Nix's database is told what lies below; if that fails there is no overlay.
    """
    directory = place_of(place)
    if register and not directory.endswith(STORE_DIR):
        raise UsageError(f"{directory}: only a directory {STORE_DIR} of some root can be registered with Nix")
    layers = Layers.of(lower.directory, os.path.realpath(upper))
    if overlay_at(directory) is not None:
        raise UsageError(f"{directory}: an overlay is mounted there already; narfs overlay remove {directory}")
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        if next(Path(directory).iterdir(), None) is not None:
            raise UsageError(f"{directory}: not empty; a mount would hide what is in it")
        for layer in (layers.upper, layers.work):
            Path(layer).mkdir(parents=True, exist_ok=True)
        flags = linux.MS_NOSUID | linux.MS_NODEV
        linux.mount(_SOURCE, directory, kind="overlay", flags=flags, options=layers.options())
    except OSError as error:
        raise _refusal(directory, layers, error) from error
    if register:
        try:
            _register(directory.removesuffix(STORE_DIR), lower.registration)
        except NarfsError:
            linux.unmount(directory)
            raise


def _refusal(directory: str, layers: Layers, error: OSError) -> UsageError:
    advice = {
        errno.EPERM: "overlays need root",
        errno.EINVAL: f"{layers.upper} must be on a disk or a tmpfs, not on an overlay, NFS or FUSE",
        errno.EBUSY: f"{layers.upper} belongs to another overlay",
    }.get(error.errno or 0)
    where = error.filename or directory
    return UsageError(f"{where}: no overlay: {error.strerror}" + (f"; {advice}" if advice else ""))


def _register(root: str, registration: str) -> None:
    """Tell the database of the Nix store below ``root`` what is valid there."""
    command = ["nix-store", *(["--option", "store", root] if root else []), "--load-db"]
    try:
        done = subprocess.run(command, input=registration, capture_output=True, text=True, check=False)  # noqa: S603 - the system's own
    except FileNotFoundError as error:
        raise UsageError("there is no nix-store on PATH to register with") from error
    if done.returncode != 0:
        raise Unavailable(f"nix-store --load-db failed: {' '.join(done.stderr.split())}")


def remove(place: Path, *, lazy: bool) -> None:
    """Unmount the overlay and remove its work directory; the upper layer stays."""
    directory = place_of(place)
    layers = _ours_at(directory)
    try:
        linux.unmount(directory, linux.MNT_DETACH if lazy else 0)
    except OSError as error:
        advice = "; end what uses it, or give --lazy" if error.errno == errno.EBUSY else ""
        raise Unavailable(f"{directory}: cannot be unmounted: {error.strerror}{advice}") from error
    if not lazy:  # the kernel still works in it
        shutil.rmtree(layers.work, ignore_errors=True)


def remount(place: Path) -> None:
    """Make the overlay forget what it remembers of names, while it is in use.

    Needed after its layers were changed behind its back: Nix runs this after collecting garbage (remount-hook).
    """
    directory = place_of(place)
    if overlay_at(directory) is None:
        raise UsageError(f"{directory}: no overlay is mounted there")
    try:
        # Flags that are not said again would be dropped; its options overlayfs keeps whatever is said.
        flags = os.statvfs(directory).f_flag & _KEPT_FLAGS
        linux.mount(_SOURCE, directory, flags=linux.MS_REMOUNT | flags)
    except OSError as error:
        raise Unavailable(f"{directory}: cannot be remounted: {error.strerror}") from error


def _ours_at(directory: str) -> Layers:
    options = overlay_at(directory)
    if options is None:
        raise UsageError(f"{directory}: no overlay is mounted there")
    layers = Layers.of(options.get("lowerdir", ""), options.get("upperdir", ""))
    if options.get("workdir") != layers.work:
        raise UsageError(f"{directory}: an overlay that narfs did not make; use umount")
    return layers
