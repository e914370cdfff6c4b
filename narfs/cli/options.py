"""Options that several commands share. They are handed on as they were typed; ``narfs.daemon.config`` reads them."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from narfs.daemon.config import Config
    from narfs.daemon.selection import Selection


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """The keys given on the command line, and the file named there."""

    given: Mapping[str, object]
    file: Path | None

    def load(self) -> Config:
        """Read all sources."""
        from narfs.daemon.sources import load

        return load(self.given, environ=os.environ, file=self.file)


REPORTS = click.option(
    "--report",
    "reports",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Keep there what was read: a page to look at if FILE ends in .html, else JSON; repeatable.",
)

_SETTINGS = {
    "store": click.option(
        "--store",
        multiple=True,
        metavar="URL",
        help="A binary cache: file:///…, http(s)://… or a directory; may be given several times."
        " [default: substituters of nix.conf]",
    ),
    "index-stores": click.option(
        "--index-store",
        "index_stores",
        multiple=True,
        metavar="URL",
        help="A store with sealed indexes of the others' paths, made by narfs seal --index-to; repeatable.",
    ),
    "trusted-public-keys": click.option(
        "--trusted-public-keys",
        metavar="KEYS",
        help="Keys that count, separated by spaces. [default: those of nix.conf]",
    ),
    "trusted-index-keys": click.option(
        "--trusted-index-keys",
        metavar="KEYS",
        help="Keys whose sealed indexes count: their paths are read in parts, each checked. [default: none]",
    ),
    "verify": click.option(
        "--verify",
        type=click.Choice(["strict", "progressive"]),
        help="strict: no byte before it was checked. progressive: as the stream passes. [default: strict]",
    ),
    "frontend": click.option(
        "--frontend",
        type=click.Choice(["auto", "tree", "erofs"]),
        help="How the kernel is given the files. tree: FUSE directories. erofs: its own EROFS, for root."
        " auto: erofs for a view of the daemon where it can be, else tree. [default: auto]",
    ),
    "cache-dir": click.option(
        "--cache-dir",
        metavar="DIR",
        help="Where fetched parts are kept. [default: ~/.cache/narfs, for root /var/cache/narfs]",
    ),
    "cache-size": click.option(
        "--cache-size", metavar="SIZE", help="Its budget: 20G, 10%. [default: 20G, at most a tenth of the disk]"
    ),
    "keep-free": click.option("--keep-free", metavar="SIZE", help="What it leaves free on its disk. [default: 5%]"),
    "netrc-file": click.option("--netrc-file", metavar="FILE", help="Credentials by host. [default: as Nix does]"),
    "bandwidth": click.option(
        "--bandwidth", metavar="SIZE", help="Bytes a second that are fetched at most: 50M. [default: no limit]"
    ),
    "fetch-bytes": click.option(
        "--fetch-bytes", metavar="SIZE", help="What is fetched for one view at most. [default: no limit]"
    ),
    "prefetch-bytes": click.option(
        "--prefetch-bytes",
        metavar="SIZE",
        help="What is fetched for one view before anybody asks for it at most; 0: nothing. [default: 1G]",
    ),
    "bandwidth-share": click.option(
        "--bandwidth-share", metavar="N", help="Its weight where views share the daemon's bandwidth. [default: 1]"
    ),
    "profile": lambda command: click.option(
        "--profile", metavar="NAME", help="Learn from and for this profile. [default: called like what is shown]"
    )(click.option("--no-profile", is_flag=True, help="Learn nothing of what is read, and bring nothing.")(command)),
    "profile-store": click.option(
        "--profile-store", metavar="URL", help="A store that is asked for profiles nobody has learned here."
    ),
    "read-deadline": click.option(
        "--read-deadline", metavar="SECONDS", help="How long a program waits for one read at most. [default: 120]"
    ),
}
_CONFIG_FILE = click.option(
    "--config",
    "config_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings in TOML. [default: ~/.config/narfs/config.toml, else /etc/narfs/config.toml]",
)

ASKING = ("store", "trusted-public-keys", "cache-dir")
"""Keys of a command that reads narinfos only."""
READING = (
    "store",
    "index-stores",
    "trusted-public-keys",
    "trusted-index-keys",
    "verify",
    "cache-dir",
    "cache-size",
    "keep-free",
)
"""Keys of a command that reads contents, and keeps them."""
SERVING = (*READING, "bandwidth", "read-deadline", "prefetch-bytes", "profile", "profile-store")
"""Keys of a command that mounts."""


def settings(*keys: str, file: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options that set ``keys``, and --config if ``file``; the command gets them as ``request``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def collected(*args: Any, config_file: Path | None = None, **parameters: Any) -> Any:
            given = {key: parameters.pop(key.replace("-", "_")) for key in keys}
            if parameters.pop("no_profile", False):
                given["profile"] = "none"
            given = {key: value for key, value in given.items() if value not in (None, ())}
            return command(*args, request=ConfigRequest(given, config_file), **parameters)

        options = (*(_SETTINGS[key] for key in keys), *([_CONFIG_FILE] if file else []))
        return functools.reduce(lambda function, option: option(function), reversed(options), collected)

    return decorate


_SELECTION = (
    click.option("--path", "paths", multiple=True, metavar="PATH", help="Show exactly this path; repeatable."),
    click.option("--closure", "closures", multiple=True, metavar="PATH", help="Show this path and all it refers to."),
    click.option(
        "--allow",
        "allow",
        multiple=True,
        type=click.File("r"),
        metavar="FILE",
        help="Show the paths in FILE, one a line.",
    ),
    click.option(
        "--paths-from",
        "lists",
        multiple=True,
        type=click.File("r"),
        metavar="FILE|-",
        help="The same; - reads them here.",
    ),
    click.option("--allow-missing", is_flag=True, help="Mount even if no store has some of them."),
)


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that close a View; the command gets them as ``select``, which reads them."""

    @functools.wraps(command)
    def collected(
        *args: Any, paths: Any, closures: Any, allow: Any, lists: Any, allow_missing: bool, **parameters: Any
    ) -> Any:
        def select() -> Selection:
            from narfs.daemon.selection import Selection

            texts = [file.read() for file in (*allow, *lists)]
            return Selection.of(paths=paths, closures=closures, lists=texts, allow_missing=allow_missing)

        return command(*args, select=select, **parameters)

    return functools.reduce(lambda function, option: option(function), reversed(_SELECTION), collected)
