"""What one session shows: a View as its whole root, or many, each in a directory of the root by its name.

The second is for a daemon: Views come and go while others are read, and each directory is bound to where people want
it. Here are the directories that lie in no NAR; all they know is in memory, but for a new name in an open View.

::

    /                  StageRoot, or the one ViewRoot
    /NAME              ViewRoot
    /NAME/.links       Links
    /NAME/HASH-NAME    an Attachment: handlers
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from narfs.errors import FormatError, NotFound, UsageError
from narfs.formats.erofs.directory import packed_bytes
from narfs.formats.store_path import StorePath
from narfs.mount.fuse.entries import FOREVER_S, UNVERIFIED_S, Entries, validity
from narfs.mount.inodes import ROOT, Inodes
from narfs.mount.view import LINKS_NAME, directory_attributes, shown_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyfuse3 import EntryAttributes

    from narfs.mount.inodes import Inode
    from narfs.mount.scene import Scene
    from narfs.mount.view import Attachment, View


class Top(Protocol):
    """A directory that lies in no NAR."""

    inode: Inode
    parent: Inode

    def entry(self) -> EntryAttributes:
        """Describe it."""

    async def lookup(self, name: bytes, /) -> EntryAttributes:
        """Find a name in it; absence is an answer with a validity, which an ENOENT would not have."""

    def children(self) -> Sequence[Any]:
        """Give what it lists; what is added later comes behind, so that a position stays what it was."""

    def listed(self, child: Any, /) -> tuple[bytes, EntryAttributes]:
        """Describe a child for a listing."""


class ViewRoot:
    """The root of a View."""

    def __init__(self, scene: Scene, entries: Entries, parent: Inode) -> None:
        self.inode = scene.view.root
        self.parent = parent
        self._view = scene.view
        self._roots = scene.roots
        self._entries = entries

    def entry(self) -> EntryAttributes:
        """Describe it; what only a peek told of its children may change."""
        settled = self._view.closed and all(each.accessor.listing is not None for each in self._view.attachments)
        return self._entries.entry(self._view.root_attributes(), FOREVER_S if settled else UNVERIFIED_S)

    async def lookup(self, name: bytes) -> EntryAttributes:
        """Find a store path; in an open View by asking the lakes, with a short deadline."""
        attachment = self._view.named(name)
        if attachment is None:
            if name == LINKS_NAME:
                return self._entries.entry(directory_attributes(self._view.links))
            if self._view.closed:
                return self._entries.absent
            try:
                path = StorePath.parse(name)
            except FormatError:
                return self._entries.absent
            try:
                attachment = await self._roots.find(path)
            except NotFound:
                return self._entries.negative(self._roots.absent_for(path))
        return self.child(attachment)

    def child(self, attachment: Attachment) -> EntryAttributes:
        """Describe the root node of a path, or raise why it cannot be shown."""
        return self._entries.entry(attachment.attributes(0, self._roots.show(attachment)), validity(attachment))

    def children(self) -> Sequence[Attachment]:
        """Give the paths."""
        return self._view.attachments

    def listed(self, child: Attachment) -> tuple[bytes, EntryAttributes]:
        """Describe a path; one of unknown kind has no mode, so the kernel lists it and asks later."""
        name = child.path.base_name.encode("ascii")
        shape = shown_root(child.accessor)
        if shape is None:
            return name, self._entries.unlooked(child.base, 0)
        return name, self._entries.entry(child.attributes(0, shape), validity(child))


class Links:
    """The empty directory of a View's root that Nix looks for."""

    def __init__(self, view: View, entries: Entries) -> None:
        self.inode = view.links
        self.parent = view.root
        self._entries = entries

    def entry(self) -> EntryAttributes:
        """Describe it."""
        return self._entries.entry(directory_attributes(self.inode))

    async def lookup(self, _name: bytes) -> EntryAttributes:
        """Find nothing, for ever."""
        return self._entries.absent

    def children(self) -> Sequence[Any]:
        """List nothing."""
        return ()

    def listed(self, child: Any) -> tuple[bytes, EntryAttributes]:
        """Never asked."""
        raise NotFound(f"{child} is not in .links")


class StageRoot:
    """The root of a session that shows many Views. The kernel is told nothing that it could remember: they change."""

    inode = parent = ROOT

    def __init__(self, stage: Stage, entries: Entries) -> None:
        self._stage = stage
        self._entries = entries

    def entry(self) -> EntryAttributes:
        """Describe it."""
        names = sorted(self._stage.by_name)
        return self._entries.entry(directory_attributes(ROOT, packed_bytes(names), len(names)), 0)

    async def lookup(self, name: bytes) -> EntryAttributes:
        """Find a View."""
        scene = self._stage.by_name.get(name)
        if scene is None:
            return self._entries.negative(0)
        return self._entries.entry(scene.view.root_attributes(), 0)

    def children(self) -> Sequence[bytes]:
        """Give the names."""
        return list(self._stage.by_name)

    def listed(self, child: bytes) -> tuple[bytes, EntryAttributes]:
        """Describe a View; one that went away since the listing began is looked up in vain."""
        scene = self._stage.by_name.get(child)
        return child, self._entries.unlooked(ROOT if scene is None else scene.view.root, 0)


class Stage:
    """One View ``solo`` or many by name, with ``inodes``. ``owner`` is uid and gid of everything shown."""

    def __init__(
        self, solo: Scene | None = None, *, inodes: Inodes | None = None, owner: tuple[int, int] = (0, 0)
    ) -> None:
        self.entries = Entries(owner)
        self.inodes = solo.view.inodes if solo is not None else Inodes() if inodes is None else inodes
        self.tops: dict[int, Top] = {}
        """By inode."""
        self._by_name: dict[bytes, Scene] = {}
        self._by_view: dict[View, Scene] = {}
        if solo is None:
            self.tops[ROOT] = StageRoot(self, self.entries)
        else:
            self._raise_curtain(solo)

    @property
    def by_name(self) -> Mapping[bytes, Scene]:
        """The scenes of a session that shows many."""
        return self._by_name

    @property
    def scenes(self) -> list[Scene]:
        """All of them."""
        return list(self._by_view.values())

    def of(self, attachment: Attachment) -> Scene:
        """Give the scene that an attachment is in; NotFound if it was removed."""
        scene = self._by_view.get(attachment.view)
        if scene is None:
            raise NotFound(f"{attachment.path.path}: its view was removed")
        return scene

    def show(self, name: bytes, scene: Scene) -> None:
        """Show a scene whose View was made ``beside_others`` with these ``inodes``; UsageError if the name is taken."""
        if name in self._by_name:
            raise UsageError(f"there is a view named {name.decode(errors='replace')} already")
        self._by_name[name] = scene
        self._raise_curtain(scene)

    async def remove(self, name: bytes) -> None:
        """Show it no longer: whoever waits in it is answered, and its inodes are not found from now on."""
        scene = self._by_name.pop(name)
        del self._by_view[scene.view], self.tops[scene.view.root], self.tops[scene.view.links]
        self.inodes.disown(scene.view)
        await scene.waits.close()

    def _raise_curtain(self, scene: Scene) -> None:
        view = scene.view
        self._by_view[view] = scene
        self.tops[view.root] = ViewRoot(scene, self.entries, ROOT)
        self.tops[view.links] = Links(view, self.entries)
