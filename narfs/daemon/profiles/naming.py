"""Under which name what is read of a View is kept: that of its derivation, or of the packages at its top.

Without hashes and versions, so that the next one finds it. A build (``hello.drv``) reads other things than whoever uses
what it made (``hello``).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from narfs.formats.package_name import without_version
from narfs.formats.profile import is_profile_name
from narfs.formats.store_path import HASH_PART

if TYPE_CHECKING:
    from collections.abc import Iterable

    from narfs.formats.narinfo import NarInfo

AUTO: Final = "auto"
NONE: Final = "none"
"""No name of a profile, but that there is to be none."""

_DERIVATION: Final = ".drv"
_HASH: Final = re.compile(rf"\A{HASH_PART.pattern}-")
_LONGEST_CHARS: Final = 100
_DIGEST_CHARS: Final = 12


def name_of_builds(derivations: Iterable[str]) -> str | None:
    """Name the profile of builds by the names of their ``.drv`` files; None if that makes no name."""
    names = (_HASH.sub("", name).removesuffix(_DERIVATION) for name in derivations)
    return _joined(without_version(name) + _DERIVATION for name in names)


def name_of_members(members: Iterable[NarInfo]) -> str | None:
    """Name the profile of a closed View by those of its paths that no other one refers to."""
    members = list(members)
    referred = {reference for member in members for reference in member.references if reference != member.path}
    return _joined(without_version(member.path.name) for member in members if member.path not in referred)


def _joined(names: Iterable[str]) -> str | None:
    """Join names in the order of the alphabet; what gets too long ends with a digest of all."""
    joined = "+".join(sorted(set(names))).lstrip("._+?=-")
    if len(joined) > _LONGEST_CHARS:
        digest = hashlib.sha256(joined.encode()).hexdigest()[:_DIGEST_CHARS]
        joined = f"{joined[: _LONGEST_CHARS - _DIGEST_CHARS - 1]}-{digest}"
    return joined if is_profile_name(joined) and joined not in {AUTO, NONE} else None
