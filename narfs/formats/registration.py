r"""The registration: what ``nix-store --load-db`` reads to take paths that are there for valid.

::

    registration = entry*
    entry        = path "\n" NarHash in hex "\n" NarSize "\n" deriver, may be empty "\n"
                   number of references "\n" (reference "\n")*

It has no room for signatures and content addresses: who needs them asks the metadata socket (worker_protocol.py).
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from narfs.errors import FormatError, UsageError
from narfs.formats.quote import quote
from narfs.formats.store_path import STORE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from narfs.formats.narinfo import NarInfo


def registration(narinfos: Iterable[NarInfo]) -> str:
    """Write the entries of a closed set, references first; UsageError names a reference outside of it."""
    # Keyed by name: hashing a NarInfo takes 5 µs each time, a text remembers its hash.
    members = {narinfo.path.base_name: narinfo for narinfo in sorted(narinfos, key=lambda each: each.path.base_name)}
    order: TopologicalSorter[str] = TopologicalSorter()
    for name, narinfo in members.items():
        references = {reference.base_name for reference in narinfo.references}
        if outside := sorted(reference for reference in references if reference not in members):
            raise UsageError(
                f"{name} refers to {outside[0]}, which is not among the paths:"
                " Nix needs all that a path refers to; give --closure"
            )
        order.add(name, *sorted(references - {name}))
    try:
        return "".join(line + "\n" for name in order.static_order() for line in _lines(members[name]))
    except CycleError as error:
        found = quote(" → ".join(error.args[1]))
        raise FormatError("registration", offset=0, expected="references without a cycle", found=found) from error


def _lines(narinfo: NarInfo) -> Iterator[str]:
    yield narinfo.path.path
    yield narinfo.nar_hash.hex()
    yield str(narinfo.nar_size)
    yield "" if narinfo.deriver is None else f"{STORE_DIR}/{narinfo.deriver}"
    references = sorted({reference.path for reference in narinfo.references})
    yield str(len(references))
    yield from references
