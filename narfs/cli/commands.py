"""The ``narfs`` program: which commands there are, and what becomes of their failures."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from narfs import __version__
from narfs.daemon.log_lines import LineFormatter
from narfs.errors import NarfsError, UsageError
from narfs.formats.quote import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

COMMANDS = {
    "mount": ("mount", "Show store paths as directories below a mountpoint."),
    "umount": ("mount", "Unmount what narfs mounted, also when its process is dead."),
    "run": ("run", "Run a program of a store path on a machine without /nix."),
    "ls": ("inspect", "List a store path without mounting it."),
    "cat": ("inspect", "Write a file of a store path to standard output."),
    "info": ("inspect", "Say what the stores know of a path, and who signed it."),
    "daemon": ("daemon", "Serve many views from one process."),
    "view": ("daemon", "Make, list and remove the views of the daemon."),
    "profile": ("profile", "Look at what views have learned to bring before a program asks; exchange it."),
    "status": ("status", "Say what the mounts fetched, served and verified."),
    "cache": ("cache", "Verify what is kept on disk, keep closures there, make it smaller."),
    "prefetch": ("prefetch", "Bring store paths whole into the cache before they are needed."),
    "push": ("push", "Bring files or Nix store paths into a store."),
    "registration": ("nix", "Write what Nix has to be told of paths that it finds in its store."),
    "overlay": ("nix", "Make a View the lower layer of a store that Nix can write to."),
    "seal": ("seal", "Sign indexes for the NARs of a store, so that parts of them can be read."),
}
"""Name: its module, and its line in the help, which is shown without loading the module."""


class LazyCommands(click.Group):
    """Commands that are loaded by name when they are used: the only dynamic import of the house."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """Name all commands, in the order of a user's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's interface
        """Load one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"narfs.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - COMMANDS says so
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's interface
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without loading it."""
        names = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.command(
    cls=LazyCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  narfs mount ~/store                      everything cache.nixos.org has
  narfs mount --closure ./result ~/store   exactly one closure
  narfs run --closure ./result -- hello    a program, without /nix
  narfs COMMAND --help                     more of them
\b
Completion: eval "$(_NARFS_COMPLETE=bash_source narfs)", or zsh_source, fish_source.""",
)
@click.version_option(__version__, prog_name="narfs")
@click.option("-v", "--verbose", count=True, help="Say what is being done; twice: everything.")
@click.option("--debug", is_flag=True, help="Say everything, and show a traceback when something fails.")
def narfs(verbose: int, debug: bool) -> None:
    """Nix store paths as directories, read straight out of the NARs of a binary cache."""
    level = logging.DEBUG if debug or verbose > 1 else logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(LineFormatter("narfs: %(message)s"))
    # Libraries speak up when asked for everything; one line per request of httpx is no news before that.
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if debug else logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 failed, 2 usage; what failed is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(narfs, given, "narfs"))


def run(command: click.Command, arguments: list[str], name: str) -> int:
    """Run one of our programs and give its exit code."""
    try:
        code: int = command.main(arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        click.echo(one_line(_in_one_line(error)), err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        # Whoever read our output has enough of it. Python would flush the rest at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except NarfsError as error:
        log.debug("where it came from:", exc_info=True)
        click.echo(one_line(f"narfs: {error}"), err=True)
        code = 2 if isinstance(error, UsageError) else 1
    return code


def _in_one_line(error: click.ClickException) -> str:
    """Say what click would say in four lines."""
    message = " ".join(error.format_message().split()).rstrip(".")
    where = None if not isinstance(error, click.UsageError) or error.ctx is None else error.ctx.command_path
    return f"narfs: {message}" if where is None else f"{where}: {message}; {where} --help tells more"
