"""``mount.narfs``: what mount(8) starts for the type ``narfs``, and with that fstab(5) and mount units of systemd."""

from __future__ import annotations

import os
import sys

import click

from narfs.cli.commands import run


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  mount -t narfs file:///srv/cache /mnt/store -o trusted-public-keys=ours-1:...
  mount -t narfs none /mnt/store -o closure=/nix/store/...-hello-2.12.1""",
)
@click.argument("source")
@click.argument("target")
@click.option("-o", "options", multiple=True, metavar="OPTS", help="Options of narfs mount, and of mount(8).")
@click.option("-s", "sloppy", is_flag=True, help="Leave out options that narfs does not know.")
@click.option("-f", "fake", is_flag=True, help="Do everything but mount.")
@click.option("-n", is_flag=True, expose_value=False, help="Nothing: there is no mtab.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")
@click.option("-t", metavar="TYPE", expose_value=False, help="Nothing: it is narfs.")
def mount_narfs(source: str, target: str, options: tuple[str, ...], sloppy: bool, fake: bool, verbose: bool) -> None:  # noqa: PLR0917 - click hands over by name
    """Mount SOURCE, the URL of a binary cache or none for those of the configuration, on TARGET."""
    from narfs.daemon.fstab import mount_arguments

    arguments = mount_arguments(source, target, options, sloppy=sloppy)
    if not fake:
        program = [sys.executable, "-P", "-m", "narfs", *(["-v"] if verbose else []), *arguments]
        os.execv(program[0], program)  # noqa: S606 - ourselves


def main() -> None:
    """Run the program and exit as narfs does."""
    sys.exit(run(mount_narfs, sys.argv[1:], "mount.narfs"))
