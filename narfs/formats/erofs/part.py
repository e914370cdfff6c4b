"""Parts: the tree of one NAR as inodes and directories, for one place in the image and one in the slab.

Inodes come in the order of the NAR, the root first, each with what belongs to it directly behind: the place of its
contents, a symlink's target, the last piece of a directory. None crosses a block, which the kernel demands of targets
and pieces. Behind the inodes are the full blocks of directories, and what leaves no room for an inode in its block::

    inode 0 | inode 1, index | inode 2, target | ... | zeros | block | block ...

A file takes 64 bytes (96 from 4 GiB on), an empty one 32, a directory or a symlink 32 and its piece or target.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from narfs.formats.erofs import ondisk
from narfs.formats.erofs.directory import pack, packed_bytes
from narfs.formats.erofs.inode import data_slots, file_slots, write_file, write_with_data
from narfs.formats.erofs.ondisk import (
    BLOCK_BYTES,
    BLOCKS_END,
    DIRECTORY_TYPE,
    REGULAR_TYPE,
    ROOT_NID,
    SLOT_BYTES,
    SLOTS_PER_BLOCK,
    SYMLINK_TYPE,
)
from narfs.formats.erofs.slab import SlabMap
from narfs.formats.listing import EXECUTABLE_BIT, KIND_SHIFT, RECORD, Kind, corrupt

if TYPE_CHECKING:
    from narfs.formats.listing import NarListing

_TYPES: Final = tuple(ondisk.TYPES[kind] for kind in Kind)


class Layout:
    """Where all of a NAR lies in its part (of ``blocks``) and its range of the slab, before their bases are known."""

    __slots__ = (
        "_children",
        "_cuts",
        "_inode_blocks",
        "_names",
        "_nodes",
        "_parents",
        "_slots",
        "_types",
        "blocks",
        "slab",
    )

    def __init__(self, listing: NarListing) -> None:
        """Lay a tree out; a FormatError when a record points outside the buffers, or the contents fit into no slab."""
        self._nodes, names, children = listing.buffers
        self._names = bytes(names)
        self._children = children.cast("I")
        self.slab = SlabMap(listing)
        self._read_columns()
        self._slots = array("I")
        self._inode_blocks = self.blocks = 0
        self._place()

    def _read_columns(self) -> None:
        """Read what is needed of children while their parent is written."""
        self._types = bytearray()
        self._parents = array("I")
        self._cuts = array("I")  # begin and end of each name
        end_of_names = len(self._names)
        for node, (_, second, parent, begin, bits) in enumerate(RECORD.iter_unpack(self._nodes)):
            kind, end = bits >> KIND_SHIFT & 3, begin + (bits & 0xFF)
            if end + (second if kind == Kind.SYMLINK else 0) > end_of_names or kind >= len(_TYPES):
                raise corrupt(node, "a node of a known kind with a name")
            if node and (parent >= node or begin == end):
                raise corrupt(node, "a node with a name and a parent before it")
            self._types.append(_TYPES[kind])
            self._parents.append(parent)
            self._cuts.extend((begin, end))

    def _place(self) -> None:
        """Give each inode its slot, as tight as it goes."""
        at = full_blocks = 0
        for node, (first, second, _, _, _) in enumerate(RECORD.iter_unpack(self._nodes)):
            type_ = self._types[node]
            if type_ == REGULAR_TYPE:
                slots = file_slots(second)
            elif type_ == SYMLINK_TYPE:
                slots, full = data_slots(1, second)
                full_blocks += full
            else:
                size = packed_bytes(self._names_of(self._children_of(node, first, second)))
                slots, full = data_slots(2 + (second >> 32), size)
                full_blocks += full
            if at % SLOTS_PER_BLOCK + slots > SLOTS_PER_BLOCK:
                at += -at % SLOTS_PER_BLOCK
            self._slots.append(at)
            at += slots
        self._inode_blocks = -(-at // SLOTS_PER_BLOCK)
        self.blocks = self._inode_blocks + full_blocks

    def _children_of(self, node: int, first: int, second: int) -> list[int]:
        """Give a directory's children, all of them really its own: a circle would never end."""
        begin, count = first & 0xFFFF_FFFF, second & 0xFFFF_FFFF
        children = self._children[begin : begin + count].tolist()
        parents = self._parents
        if not second >> 32 <= count == len(children):
            raise corrupt(node, "a directory whose children exist")
        if any(not node < child < len(parents) or parents[child] != node for child in children):
            raise corrupt(node, "a directory with children of its own")
        return children

    def _names_of(self, nodes: list[int]) -> list[bytes]:
        names, cuts = self._names, self._cuts
        return [names[cuts[2 * node] : cuts[2 * node + 1]] for node in nodes]

    def part(self, block: int, slab_block: int, *, shared_block: int | None = None) -> bytes:
        """Write the part for ``block`` of images, the contents being at ``slab_block``; ``blocks`` whole blocks.

        A View with a second path of the same NAR needs other directories for it, since the kernel moves one that
        appears twice: a part elsewhere, which refers to the files and symlinks of the first one at ``shared_block``.
        """
        if not 0 <= block <= BLOCKS_END - self.blocks or not 0 <= slab_block <= BLOCKS_END - self.slab.blocks:
            raise ValueError(
                f"no room for {self.blocks} blocks at {block} and {self.slab.blocks} at {slab_block} of the slab"
            )
        out = bytearray(self.blocks * BLOCK_BYTES)
        own = block * SLOTS_PER_BLOCK
        others = own if shared_block is None else shared_block * SLOTS_PER_BLOCK
        next_full = self._inode_blocks
        types, slots, starts = self._types, self._slots, self.slab.starts
        for node, (first, second, parent, _, bits) in enumerate(RECORD.iter_unpack(self._nodes)):
            type_, at = types[node], slots[node] * SLOT_BYTES
            if type_ == REGULAR_TYPE:
                mode = ondisk.EXECUTABLE_MODE if bits & EXECUTABLE_BIT else ondisk.FILE_MODE
                write_file(out, at, mode, second, slab_block + starts[node])
                continue
            if type_ == SYMLINK_TYPE:
                begin = self._cuts[2 * node + 1]
                data, links, mode = self._names[begin : begin + second], 1, ondisk.LINK_MODE
            else:
                children = self._children_of(node, first, second)
                data = pack(
                    self._names_of(children),
                    [slots[child] + (own if types[child] == DIRECTORY_TYPE else others) for child in children],
                    [types[child] for child in children],
                    own=own + slots[node],
                    parent=own + slots[parent] if node else ROOT_NID,
                )
                links, mode = 2 + (second >> 32), ondisk.DIRECTORY_MODE
            next_full += write_with_data(
                out, at, mode, links, data, full_at=next_full * BLOCK_BYTES, block=block + next_full
            )
        return bytes(out)
