"""One run of a program, as a profile has it: what was read of a View, by name and file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from narfs.errors import FormatError
from narfs.formats.profile import Place, Read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from narfs.formats.listing import NarListing
    from narfs.mount.reads import Reads
    from narfs.mount.view import Attachment, View


def run_of(view: View, reads: Reads) -> Iterator[Read]:
    """Give what was read up to now, in order, each block once; a path whose tree is not known any more is left out."""
    names: dict[Attachment, tuple[str, int]] = {}
    counts: dict[str, int] = {}
    for attachment in sorted(view.attachments, key=lambda attachment: attachment.path):
        nth = counts.get(attachment.path.name, 0)
        counts[attachment.path.name] = nth + 1
        names[attachment] = attachment.path.name, nth
    places: dict[tuple[Attachment, int], Place | None] = {}
    for at_s, attachment, node, block, _ in reads.first_reads():
        file = attachment, node
        if file not in places:
            path = _path(attachment.accessor.listing, node)
            places[file] = None if path is None else Place(*names[attachment], path)
        if (place := places[file]) is not None:
            yield Read(round(at_s * 1000), place, block, block)


def _path(listing: NarListing | None, node: int) -> bytes | None:
    """Give the path of a node inside its NAR; None for a record that makes no sense."""
    try:
        return None if listing is None else listing.path_of(node)
    except FormatError:
        return None
