"""``narfs mount`` and ``narfs umount``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from narfs.cli.options import SERVING, ConfigRequest, selection, settings
from narfs.errors import NarfsError
from narfs.formats.quote import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from narfs.daemon.selection import Selection

log = logging.getLogger(__name__)


@click.command(
    epilog="""\b
Examples:
  narfs mount ~/store
      whatever the substituters of nix.conf have; a path appears when it is used
  narfs mount --store file:///srv/cache --closure ./result /mnt/build
      exactly the closure of ./result, from one store
  nix-store -qR ./result | narfs mount --paths-from - /mnt/build
      exactly the paths on standard input
  narfs mount --closure ./result --frontend erofs /mnt/build
      the same at the speed of a local disk, for root: by the kernel's own EROFS
\b
Without --path, --closure, --allow and --paths-from everything in the stores is shown."""
)
@click.argument("mountpoint", type=click.Path(path_type=Path))
@settings(*SERVING, "frontend")
@selection
@click.option(
    "-o", "words", multiple=True, metavar="OPTS", help="Mount options, as for mount(8): allow_other, nonempty."
)
@click.option(
    "--nix-socket",
    type=click.Path(path_type=Path, resolve_path=True),
    metavar="PATH",
    help="Answer Nix there (--store unix://PATH) what is known of the store paths.",
)
@click.option("-f", "--foreground", is_flag=True, help="Stay until unmounted, log to standard error (for systemd).")
def mount(  # noqa: PLR0917 - click hands over by name
    mountpoint: Path,
    request: ConfigRequest,
    select: Callable[[], Selection],
    words: tuple[str, ...],
    nix_socket: Path | None,
    foreground: bool,
) -> None:
    """Show store paths as directories below MOUNTPOINT; returns when it is usable.

    Files are fetched and checked when something reads them, and kept in a cache. Unmount with narfs umount.
    """
    from narfs.daemon import background
    from narfs.daemon.directories import log_directory, runtime_directory, state_directory
    from narfs.daemon.readiness import Announcer
    from narfs.mount.mounted import place_of

    place = place_of(mountpoint)
    announcer = background.inherited_announcer(os.environ)
    if announcer is None and not foreground:
        log_file = log_directory(os.environ) / f"mount{place.replace('/', '-')}.log"
        for warning in background.start(sys.argv[1:], log_file=log_file, environ=os.environ):
            click.echo(one_line(f"narfs: {warning}"), err=True)
        return
    from narfs.daemon import serving

    background.log_as_daemon(with_time=not foreground)
    announcer = announcer or Announcer(None, os.environ)
    runtime = runtime_directory(os.environ)
    try:
        config = request.load()
        options = serving.mount_options(words)
        task = serving.Task(
            config,
            select(),
            Path(place),
            options,
            label=place,
            runtime=runtime,
            images=state_directory(os.environ) / "images",
            nix_socket=nix_socket,
        )
        if not foreground:
            os.chdir("/")  # a daemon must not keep the directory it was started in from being unmounted
        serving.run(task, announcer)
    except NarfsError as error:
        if not announcer.failed(error):
            raise
        log.error("%s", error)  # noqa: TRY400 - an expected failure, which the parent says too
        sys.exit(1)


@click.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
def umount(mountpoint: Path) -> None:
    """Unmount what narfs mounted on MOUNTPOINT and wait until its process has ended.

    A mount whose process died is cleared too.
    """
    from narfs.daemon.directories import runtime_directory
    from narfs.daemon.unmounting import unmount

    unmount(mountpoint, runtime_directory(os.environ))
