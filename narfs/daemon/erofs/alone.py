"""One View on one mountpoint by EROFS: the FUSE session that serves its slab has a directory of its own.

::

    RUNTIME/erofs-PID    the session: the View as a directory, and its slab
    MOUNTPOINT           the EROFS mount over that slab
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from narfs.daemon.erofs.homes import is_ours
from narfs.daemon.views import place
from narfs.mount.fuse import Stage, serve_mount

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from narfs.daemon.erofs.images import Images
    from narfs.daemon.session import Household
    from narfs.mount.fuse import Handlers
    from narfs.mount.scene import Scene

_NAME: Final = "view"

_LOOK_EVERY_S: Final = 1.0
"""How soon an unmount from outside is noticed."""


async def serve_alone(
    scene: Scene,
    images: Images,
    household: Household,
    mountpoint: Path,
    *,
    on_ready: Callable[[Handlers], object],
) -> None:
    """Serve until it is unmounted or the caller is cancelled; then nothing is mounted any more.

    The scene's View has inodes of its own, but was made ``beside_others``.
    """
    stage = Stage(inodes=scene.view.inodes)
    stage.show(_NAME.encode(), scene)
    try:
        async with trio.open_nursery() as nursery:

            async def show(handlers: Handlers) -> None:
                shown = await images.mount(_NAME, scene, household, stage, mountpoint)
                try:
                    on_ready(handlers)
                    while is_ours(shown):  # noqa: ASYNC110 - it is the kernel's event, and it has none for us
                        await trio.sleep(_LOOK_EVERY_S)
                finally:
                    with trio.CancelScope(shield=True):
                        await place.unbind(shown, lazily=True)
                nursery.cancel_scope.cancel()

            await serve_mount(stage, images.home, on_ready=lambda handlers: nursery.start_soon(show, handlers))
            nursery.cancel_scope.cancel()
    finally:
        images.home.rmdir()
