"""Which narinfos count: somebody we trust vouches for the NarHash, or the NarHash proves itself.

A narinfo is *trusted* when its lake is (``?trusted=1`` waives the signature), when a trusted key signed its
fingerprint, or when it is content-addressed by a method whose result follows from the NarHash. In all three cases the
NarHash is still compared with the bytes; URL, Compression and the File fields are hints from a stranger.

Index keys are a list of their own: who signs a sealed index says that he compared the whole NAR with its NarHash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from narfs.formats.signature import PublicKeys

if TYPE_CHECKING:
    from narfs.formats.index import NarIndex
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import PublicKey
    from narfs.lake.binary_cache import BinaryCache


class Verify(StrEnum):
    """When the bytes of a path may be seen."""

    STRICT = "strict"
    """Not before they were checked against what a trusted key signed."""
    PROGRESSIVE = "progressive"
    """As the stream passes; a mismatch at its end poisons the path."""


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """The keys that count, and when bytes may be seen."""

    keys: PublicKeys
    verify: Verify = Verify.STRICT
    index_keys: PublicKeys = field(default=PublicKeys())

    def accepts(self, lake: BinaryCache, narinfo: NarInfo, signer: PublicKey | None) -> bool:
        """Say whether ``narinfo``, as ``lake`` gave it, counts; ``signer`` is what the method of that name gave."""
        return lake.url.trusted or signer is not None or narinfo.content_address_matches()

    def signer(self, narinfo: NarInfo, known: PublicKey | None = None) -> PublicKey | None:
        """Give the trusted key that signed ``narinfo``, if any did; 0.1 ms, unless it is the one ``known`` to have."""
        if known is not None and self.keys.named(known.name) == known:
            return known
        name = self.keys.verify(narinfo.fingerprint, narinfo.signatures)
        return None if name is None else self.keys.named(name)

    def accepts_index(self, index: NarIndex) -> bool:
        """Say whether an index that was kept counts: made from the whole NAR, or vouched for by a key still trusted."""
        return index.voucher is None or index.voucher in self.index_keys.keys
