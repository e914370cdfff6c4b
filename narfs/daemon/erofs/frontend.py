"""Who shows a View, and why: ``tree`` (FUSE directories) can always, ``erofs`` (the kernel's own) is faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from narfs.daemon.config import Frontend
from narfs.engine.trust import Verify
from narfs.errors import NarfsError, UsageError, again

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from narfs.daemon.config import Config
    from narfs.daemon.erofs.images import Images
    from narfs.engine.accessor import NarAccessor
    from narfs.formats.store_path import StorePath

    Members = Sequence[tuple[StorePath, NarAccessor]]


class Choice(NamedTuple):
    """The frontend, and why it is that one."""

    frontend: Frontend
    why: str


async def choose(config: Config, members: Members | None, images: Images) -> Choice:
    """Choose for a View with these members (None: an open one), and learn what an image needs to know of them.

    Asked for by name, ``erofs`` is a UsageError where it cannot be, and waits for whole NARs if it must; raises why one
    cannot be had. ``auto`` takes it if all trees come without that.
    """
    if config.frontend is Frontend.TREE:
        return Choice(Frontend.TREE, "asked for")
    trouble = await _trouble(config, members, images)
    wanted = config.frontend is Frontend.EROFS
    if trouble is None and members is not None:
        if wanted:
            await settle(members)
            return Choice(Frontend.EROFS, "asked for")
        trouble = await _without_tree(members)
    if trouble is None:
        return Choice(Frontend.EROFS, "every tree is known, and the kernel can")
    if wanted:
        raise UsageError(f"--frontend erofs: {trouble}")
    return Choice(Frontend.TREE, trouble)


def foresees(config: Config, images: Images | None) -> Callable[[NarAccessor], None]:
    """Give who is to be told of the trees of a closed View as they come: nobody, if it gets no image."""
    if images is None or config.frontend is Frontend.TREE or config.verify is Verify.PROGRESSIVE:
        return lambda _: None
    return images.foresee


async def settle(members: Members) -> None:
    """Wait for all trees, for whole NARs if it must be; raises why one cannot be had."""
    await _for_all(members, lambda accessor: accessor.settle())


async def _trouble(config: Config, members: Members | None, images: Images) -> str | None:
    """Say what no View like this gets an image for."""
    if members is None:
        return "an open view has no image; name its paths"
    if config.verify is Verify.PROGRESSIVE:
        return "under progressive trees are shown before they are known"
    return await images.trouble()


async def _without_tree(members: Members) -> str | None:
    """Ask for sealed indexes, and say of whom there is none."""
    try:
        await _for_all(members, lambda accessor: accessor.unseal())
    except NarfsError as error:
        return str(error)
    unknown = [path.base_name for path, accessor in members if accessor.listing is None]
    if not unknown:
        return None
    return f"{len(unknown)} of {len(members)} paths are neither sealed nor cached, {unknown[0]} for one"


async def _for_all(members: Members, do: Callable[[NarAccessor], Awaitable[object]]) -> None:
    """Do it for those whose tree is not known, all at once; raise the first failure, with its path."""
    failed: list[NarfsError] = []

    async def one(path: StorePath, accessor: NarAccessor) -> None:
        try:
            await do(accessor)
        except NarfsError as error:
            named = again(error)
            if path.base_name not in str(error):
                named.args = (f"{path.base_name}: {error}",)
            failed.append(named)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for path, accessor in members:
            if accessor.listing is None:
                nursery.start_soon(one, path, accessor)
    if failed:
        raise failed[0]
