"""What ``narfs profile`` does with the profiles in a cache directory, also while a daemon has it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from narfs.cache.profiles import Profiles
from narfs.daemon import event_loop
from narfs.daemon.profiles.stores import push_profile
from narfs.daemon.pushing import read_key
from narfs.formats.profile import BLOCK_BYTES
from narfs.formats.profile_object import read_profile, write_profile

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.daemon.config import Config
    from narfs.formats.profile import Profile


def list_profiles(config: Config) -> list[dict[str, object]]:
    """Give the facts of all, the one that changed last first."""
    kept = Profiles(config.cache_dir).all()
    return [{"name": name, "changed": changed, "bytes": size} for changed, name, size in kept]


def show_profile(config: Config, name: str) -> dict[str, object]:
    """Give what is in one; NotFound, FormatError."""
    return facts(name, _load(config, name))


def export_profile(config: Config, name: str, key_file: Path | None) -> bytes:
    """Give one as an object, signed if there is a key."""
    keys = [] if key_file is None else [read_key(key_file)]
    return write_profile(name, _load(config, name), keys)


def import_profile(config: Config, data: bytes, name: str | None) -> str:
    """Keep an object that somebody handed over, whoever signed it, as ``name`` if given; give its name."""
    found, profile = read_profile(data)
    name = name or found
    Profiles(config.cache_dir).keep(name, write_profile(name, profile))
    return name


def push_kept_profile(config: Config, name: str, target: str, key_file: Path | None) -> None:
    """Write one into a lake."""
    keys = [] if key_file is None else [read_key(key_file)]
    event_loop.run(partial(push_profile, config, name, _load(config, name), target, keys))


def remove_profile(config: Config, name: str) -> None:
    """Forget one; NotFound."""
    Profiles(config.cache_dir).remove(name)


def facts(name: str, profile: Profile) -> dict[str, object]:
    """Say what is in a profile."""
    return {
        "name": name,
        "blocks": profile.blocks,
        "block_bytes": BLOCK_BYTES,
        "failed_runs": profile.failed_runs,
        "reads": [
            {
                "ms": read.at_ms,
                "package": read.place.package,
                "nth": read.place.nth,
                "file": read.place.file.decode("utf-8", "surrogateescape"),
                "first_block": read.first,
                "last_block": read.last,
                "unseen": read.unseen,
            }
            for read in profile.reads
        ],
    }


def _load(config: Config, name: str) -> Profile:
    return read_profile(Profiles(config.cache_dir).load(name), name)[1]
