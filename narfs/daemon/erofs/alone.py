"""One View on one mountpoint by EROFS: its slab has a mount in a directory of its own.

::

    RUNTIME/erofs-PID    the slab
    MOUNTPOINT           the EROFS mount over that slab
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from narfs.daemon.erofs.images import here_is
from narfs.daemon.views import place

if TYPE_CHECKING:
    from collections.abc import Callable

    from narfs.daemon.erofs.images import Images
    from narfs.mount.scene import Scene
    from narfs.mount.statistics import MountStatistics

_LOOK_EVERY_S: Final = 1.0
"""How soon an unmount from outside is noticed."""


async def serve_alone(
    scene: Scene,
    images: Images,
    mountpoint: Path,
    *,
    on_ready: Callable[[Callable[[], MountStatistics]], object],
) -> None:
    """Serve a View that knows all its trees until it is unmounted or the caller is cancelled.

    Then nothing of it is mounted any more, and whoever waited for bytes got ENOTCONN. What others mounted at its place
    meanwhile, or had there before, stays. ``on_ready`` is told who counts.
    """
    shown = await images.mount(mountpoint.name, scene, mountpoint)
    try:
        on_ready(lambda: replace(images.statistics(), waiting=len(scene.waits)))
        while here_is(shown):  # noqa: ASYNC110 - it is the kernel's event, and it has none for us
            await trio.sleep(_LOOK_EVERY_S)
    finally:
        with trio.CancelScope(shield=True):
            await scene.waits.close()
            if here_is(shown):
                await place.unbind(Path(shown.place), lazily=True)
