"""What mount(8) hands to ``mount.narfs``, a line of fstab(5), in the words of ``narfs mount``.

::

    file:///srv/cache  /mnt/store  narfs  closure=/nix/store/…-hello-2.12.1,cache-dir=/var/cache/store,_netdev  0  0
    SOURCE             TARGET             WORD=VALUE,WORD,…
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from narfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_STORE: Final = frozenset({"none", "narfs"})
"""Sources that name none: the stores are those of the configuration."""

_WITH_VALUE: Final = frozenset(
    {
        *("config", "store", "index-store", "trusted-public-keys", "trusted-index-keys", "verify", "read-deadline"),
        *("cache-dir", "cache-size", "keep-free", "bandwidth", "prefetch-bytes", "profile", "profile-store"),
        *("path", "closure", "allow", "paths-from", "frontend", "nix-socket"),
    }
)
_ALONE: Final = frozenset({"allow-missing", "no-profile"})
_LISTS: Final = frozenset({"trusted-public-keys", "trusted-index-keys"})
"""Those that ``narfs mount`` takes once, as a list with spaces; a word that comes twice adds to it."""
_KERNELS: Final = frozenset({"allow_other", "nonempty"})


def mount_arguments(source: str, target: str, options: Iterable[str], *, sloppy: bool = False) -> list[str]:
    """Give the arguments of ``narfs``; words that are not its own go on to the kernel, unless ``sloppy``."""
    arguments = [] if source in _NO_STORE else ["--store", source]
    lists: dict[str, list[str]] = {}
    others = []
    for word in (word for text in options for word in text.split(",") if word):
        name, value = _checked(word)
        if name in _LISTS:
            lists.setdefault(name, []).append(value)
        elif name in _WITH_VALUE:
            arguments += [f"--{name}", value]
        elif name in _ALONE:
            arguments.append(f"--{name}")
        elif word in _KERNELS or not sloppy:
            others.append(word)
    for name, values in lists.items():
        arguments += [f"--{name}", " ".join(values)]
    # mount -a compares it with fstab, to see what is mounted. A password is nobody's business, a comma ends a word.
    if not set(source) & set("@,"):
        others.append(f"fsname={source}")
    # mount(8) says rw wherever nobody said ro.
    if others := [word for word in others if word != "rw"]:
        arguments += ["-o", ",".join(others)]
    return ["mount", *arguments, "--", target]


def _checked(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if name == "remount":
        raise UsageError("-o remount: narfs cannot; unmount it and mount it again")
    if (name in _WITH_VALUE and not value) or (name in _ALONE and equals):
        raise UsageError(f"-o {word}: expected {name}{'' if name in _ALONE else '=…'}")
    return name, value
