"""``narfs registration`` and ``narfs overlay``: what Nix needs to take a View for its store."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

from narfs.cli.options import ASKING, ConfigRequest, settings


@click.command(
    epilog="""\b
Examples:
  narfs registration --closure ./result | nix-store --load-db
  nix-store -qR ./result | xargs narfs registration > closure.reg
"""
)
@settings(*ASKING)
@click.option("--closure", is_flag=True, help="Write all that the paths refer to, too.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def registration(request: ConfigRequest, paths: tuple[str, ...], closure: bool) -> None:
    """Write what nix-store --load-db reads to take paths that are there for valid, references first.

    Fails if a path refers to one that is not written.
    """
    from narfs.daemon import event_loop, registering
    from narfs.daemon.selection import Selection

    selection = Selection.of(closures=paths) if closure else Selection.of(paths=paths)
    click.echo(event_loop.run(partial(registering.registration_of, request.load(), selection)), nl=False)


@click.group(
    epilog="""\b
Examples:
  narfs overlay create /nix/store --mount /mnt/view --upper /nix/upper --register
      Nix's own store: the closure below is valid, what is built goes to /nix/upper
  narfs overlay create /build/1/nix/store --mount /mnt/view --upper /build/1/upper --register
      the store of the root /build/1, for nix-build --store /build/1
  narfs overlay create /nix/store --mount /mnt/view --upper /nix/upper --no-registration
      for a local-overlay store, which asks the mount's --nix-socket
  narfs overlay create /nix/store --view build-17 --upper /nix/upper --register
      the same over a view of narfs daemon"""
)
def overlay() -> None:
    """Make a closed View the lower layer of a store that Nix can write to."""


@overlay.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--mount",
    "mountpoint",
    type=click.Path(path_type=Path),
    metavar="MOUNTPOINT",
    help="The View that narfs mount shows there; it must be closed.",
)
@click.option("--view", metavar="NAME", help="The View of this name that narfs daemon keeps, instead.")
@click.option(
    "--upper",
    type=click.Path(path_type=Path),
    required=True,
    metavar="U",
    help="Where what is written goes: a directory on a local disk. U.work is used, too.",
)
@click.option("--register", "how", flag_value="register", help="Have nix-store --load-db read the registration.")
@click.option("--no-registration", "how", flag_value="nothing", help="Do not print the registration.")
def create(directory: Path, mountpoint: Path | None, view: str | None, upper: Path, how: str | None) -> None:
    """Mount an overlay of U over a View on DIR, and print the View's registration for nix-store --load-db."""
    from narfs.daemon import overlaying
    from narfs.daemon.directories import runtime_directory

    if mountpoint is not None and view is None:
        lower = overlaying.mounted(mountpoint, runtime_directory(os.environ))
    elif view is not None and mountpoint is None:
        lower = overlaying.kept(view, os.environ)
    else:
        raise click.UsageError("give either --mount or --view")
    overlaying.create(directory, lower, upper=upper, register=how == "register")
    if how is None:
        click.echo(lower.registration, nl=False)


@overlay.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--lazy", is_flag=True, help="Also while something uses it: it is gone when nothing does any more.")
def remove(directory: Path, lazy: bool) -> None:
    """Unmount an overlay that narfs made. The upper layer stays, with all that was written."""
    from narfs.daemon import overlaying

    overlaying.remove(directory, lazy=lazy)


@overlay.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
def remount(directory: Path) -> None:
    """Make an overlay look at its layers anew, while it is in use.

    It is what the remount-hook of a local-overlay store has to do: a script with exec narfs overlay remount "$1".
    """
    from narfs.daemon import overlaying

    overlaying.remount(directory)
