"""What stays of a package's name when its version changes.

::

    name    = base [ "-" version [ "-" output ] ]
    version = begins with no letter (as Nix has it)
    output  = small letters, behind the last dash: bin, dev, lib

``openssl-3.0.14-bin`` and ``openssl-3.0.15-bin`` are one package in two versions, ``openssl-3.0.14`` is another one.
"""

from __future__ import annotations

import re
from functools import lru_cache

_VERSION = re.compile(r"-[^A-Za-z].*", re.DOTALL)
_OUTPUT = re.compile(r"-[a-z]+\Z")


@lru_cache(maxsize=4096)
def without_version(name: str) -> str:
    """Give base and output: ``openssl-bin``."""
    version = _VERSION.search(name)
    if version is None:
        return name
    output = _OUTPUT.search(version[0])
    return name[: version.start()] + (output[0] if output else "")
