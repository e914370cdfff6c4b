"""What makes two lakes the same for those who must not see what others see: address, and whose requests they get.

Two stores with one identity give the same to whoever asks. ``priority``, ``trusted`` and ``optional`` are how we use a
lake and no part of it. AWS credentials out of the environment are the whole process's; a profile is named in the URL.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from narfs.lake.client import certificate_bundle, credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from narfs.lake.settings import LakeSettings
    from narfs.lake.store_url import StoreUrl


def identity_of(url: StoreUrl, settings: LakeSettings, environ: Mapping[str, str]) -> bytes:
    """Digest it. Reads the netrc file, blocking: UsageError if it cannot be read."""
    told = [str(url), *(f"{key}={value}" for key, value in sorted(url.parameters))]
    if not (url.is_file or url.is_s3):
        told += credentials(url, settings).values()
    if not url.is_file and url.scheme != "http":
        told.append(certificate_bundle(settings, environ) or "")
    return joined(text.encode() for text in told)


def joined(parts: Iterable[bytes]) -> bytes:
    """Digest a list so that no two lists have the same."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()
