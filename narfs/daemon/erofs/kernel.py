"""EROFS as the kernel does it: mounts of image files, with a slab for their device. All of it blocks."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from narfs.daemon import linux
from narfs.errors import Unavailable
from narfs.formats.erofs.image import head

if TYPE_CHECKING:
    from collections.abc import Mapping

_FLAGS: Final = linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
_OPTIONS: Final = "nouser_xattr,noacl"

_REASONS: Final[Mapping[int, str]] = {
    errno.EPERM: "only root may mount EROFS",
    errno.ENODEV: "this kernel has no EROFS (CONFIG_EROFS_FS)",
    errno.ENOTBLK: "it takes no image from that file system (tmpfs, overlayfs), or is older than Linux 6.12 (or without"
    " CONFIG_EROFS_FS_BACKED_BY_FILE)",
}


def mount(image: Path, slab: Path, place: Path) -> None:
    """Mount; Unavailable says why not. The kernel opens ``slab``, whose server must not be waiting for this."""
    if "," in str(slab):
        raise Unavailable(f"{slab}: EROFS takes no device with a comma in its path")
    try:
        linux.mount(str(image), str(place), kind="erofs", flags=_FLAGS, options=f"device={slab},{_OPTIONS}")
    except OSError as error:
        why = _REASONS.get(error.errno or 0, error.strerror)
        raise Unavailable(f"{place}: the kernel does not mount {image}: {why}") from error


def trouble(directory: Path, slabs: Path) -> str | None:
    """Say why images in ``directory`` cannot be mounted with slabs in ``slabs``; None if one of nothing could.

    Its unmount takes 10 to 60 ms, for which the kernel waits for all its processors.
    """
    if "," in str(slabs):
        return f"{slabs}: EROFS takes no device with a comma in its path"
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix="probe-") as folder:
            image, slab, place = (Path(folder, name) for name in ("image", "slab", "mount"))
            image.write_bytes(head([], inodes=1, nar_bytes=0))
            slab.write_bytes(b"")
            place.mkdir()
            mount(image, slab, place)
            linux.unmount(str(place), linux.MNT_DETACH)
    except Unavailable as error:
        return str(error).partition("does not mount ")[2].replace(folder, str(directory))
    except OSError as error:
        return f"{directory}: {error.strerror}"
    return None
