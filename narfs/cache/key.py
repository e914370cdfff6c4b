"""Under which key a NAR is kept: its NarHash, in each domain for itself.

The daemon's own stores are one domain, the empty one. A View that brings stores, credentials or index keys of its own
has another (``daemon/domains``): it finds nothing that was fetched in a foreign one, because a NarHash is no secret and
its own stores may claim to have any. All files and all rows of the catalog go by the key; the NarIndex has the NarHash.
"""

from __future__ import annotations

import hashlib


def key_of(nar_hash: bytes, domain: bytes) -> bytes:
    """Give the key of a NAR, 32 bytes; a domain has 32 too, or none."""
    return hashlib.sha256(domain + nar_hash).digest() if domain else nar_hash
