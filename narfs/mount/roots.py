"""What is shown for the names in the root: always from memory, because a lookup that waits there blocks them all.

The kernel answers one uncached lookup, listing or create in a directory at a time. So a closed View learns the kind of
every root node before it is usable, and one that could not be learned answers its trouble at once while a new try runs
behind it. An open View asks the lake for a name it has never heard of; that is its one wait, with a short deadline.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from narfs.errors import Corrupt, FormatError, NarfsError, Unavailable, Untrusted, again
from narfs.mount.view import shown_root

if TYPE_CHECKING:
    from narfs.formats.listing import Shape
    from narfs.formats.store_path import StorePath
    from narfs.mount.accessor import Accessor, PathSource
    from narfs.mount.view import Attachment, View
    from narfs.mount.waits import Waits

_RETRY_S = 1.0
"""Programs stat a failing path in a loop; one new try a second is enough."""

_FINAL = (Corrupt, FormatError, Untrusted)


class Roots:
    """The root nodes of one View."""

    def __init__(self, view: View, source: PathSource | None, waits: Waits, *, deadline_s: float) -> None:
        self._view = view
        self._source = source
        self._waits = waits
        self._deadline_s = deadline_s
        self._retry_at: dict[Attachment, float] = {}
        self._ask, self._asked = trio.open_memory_channel["Attachment"](math.inf)

    async def learn_all(self) -> None:
        """Learn the kind of every root node, or why it cannot be known; takes no longer than the deadline."""
        async with trio.open_nursery() as nursery:
            for attachment in self._view.attachments:
                if shown_root(attachment.accessor) is None:
                    nursery.start_soon(self._learn, attachment)

    async def keep_trying(self) -> None:
        """Try again what ``show`` could not show; runs as long as the mount, ends by cancellation."""
        async with trio.open_nursery() as nursery:
            async for attachment in self._asked:
                nursery.start_soon(self._learn, attachment)

    def show(self, attachment: Attachment) -> Shape:
        """Tell of the root node of a path from memory, or raise its trouble. Not a checkpoint."""
        shape = shown_root(attachment.accessor)
        if shape is not None:
            return shape
        trouble = attachment.trouble
        if not isinstance(trouble, _FINAL) and trio.current_time() >= self._retry_at.get(attachment, 0.0):
            self._retry_at[attachment] = math.inf  # until this try has ended
            self._ask.send_nowait(attachment)
        if trouble is None:
            raise Unavailable(f"{attachment.path.path}: its kind is not known yet; ask again in a second")
        raise again(trouble) from trouble

    async def find(self, path: StorePath) -> Attachment:
        """Attach a path that an open View has not heard of; NotFound when there is none."""
        return await self._waits.within(self._deadline_s, self._find, path)

    def absent_for(self, path: StorePath) -> float:
        """Seconds for which the NotFound of ``find`` may be relied on."""
        return 0.0 if self._source is None else self._source.absent_for(path)

    async def _find(self, path: StorePath) -> Attachment:
        if self._source is None:
            raise Unavailable(f"{path.path}: this view has nowhere to look for it")
        accessor = await self._source.find(path)
        if shown_root(accessor) is None:
            await _peek(path, accessor)
        return self._view.attach(path, accessor)

    async def _learn(self, attachment: Attachment) -> None:
        try:
            await self._waits.within(self._deadline_s, _peek, attachment.path, attachment.accessor)
        except NarfsError as error:
            attachment.trouble = error
        else:
            attachment.trouble = None
        self._retry_at[attachment] = trio.current_time() + _RETRY_S


async def _peek(path: StorePath, accessor: Accessor) -> None:
    """Learn the kind of a root node; what is wrong with the bytes of a NAR is told with the name of its path."""
    try:
        await accessor.peek()
    except FormatError as error:
        raise Corrupt(f"{path.base_name}: {error}") from error
