"""What ``narfs info`` says of a store path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from narfs.daemon.session import open_session
from narfs.engine.closure import describe_all
from narfs.formats.digest import Hash

if TYPE_CHECKING:
    from narfs.daemon.config import Config
    from narfs.daemon.selection import PathName
    from narfs.daemon.session import Session
    from narfs.engine.means import Described


async def facts(config: Config, name: PathName, *, closure: bool) -> dict[str, Any]:
    """Give every field of the narinfo, why it is trusted, and whether the NAR is in our cache, verified."""
    async with open_session(config, if_held="uncached") as session:
        described = await session.describe(name)
        told = _narinfo(described) | await _trust(session, described)
        if closure:
            members = await describe_all(session.store, [described.narinfo.path], closure=True, allow_missing=False)
            told["closurePaths"] = len(members)
            told["closureNarSize"] = sum(member.narinfo.nar_size for member in members)
            told["closureFileSize"] = sum(member.narinfo.file_size or 0 for member in members)
        return told


def _narinfo(described: Described) -> dict[str, Any]:
    narinfo = described.narinfo
    return {
        "path": narinfo.path.path,
        "store": str(described.lake.url),
        "url": narinfo.url,
        "compression": narinfo.compression,
        "narHash": Hash("sha256", narinfo.nar_hash).sri,
        "narSize": narinfo.nar_size,
        "fileHash": None if narinfo.file_hash is None else narinfo.file_hash.sri,
        "fileSize": narinfo.file_size,
        "references": [reference.path for reference in narinfo.references],
        "deriver": narinfo.deriver,
        "ca": narinfo.ca,
        "signatures": [str(signature) for signature in narinfo.signatures],
        **dict(narinfo.extra),
    }


async def _trust(session: Session, described: Described) -> dict[str, Any]:
    narinfo = described.narinfo
    signer = session.store.means.trust.signer(narinfo)
    if signer is not None:
        why = "signature"
    else:
        why = "content address" if narinfo.content_address_matches() else "store is trusted"
    # Without the cache it is not known here; a daemon that has it may know.
    verified = None if session.cache is None else (await session.store.accessor(described)).verified
    return {"trustedBy": why, "signedBy": signer and signer.name, "verified": verified}
