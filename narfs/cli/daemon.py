"""``narfs daemon`` and ``narfs view``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from narfs.cli.options import REPORTS, SERVING, selection, settings
from narfs.cli.output import print_json, print_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from narfs.cli.options import ConfigRequest
    from narfs.daemon.selection import Selection


@click.command(
    epilog="""\b
Examples:
  narfs daemon                                       stores and keys of nix.conf, /var/cache/narfs
  narfs daemon --group builders                      members of the group may ask how it goes
  narfs view create build-17 --closure ./result --at /srv/build-17/store"""
)
@settings(*SERVING, "fetch-bytes", "frontend")
@click.option("--group", metavar="NAME", help="Members may connect and look; changing is for root and this user.")
def daemon(request: ConfigRequest, group: str | None) -> None:
    """Serve many views from one process, made and removed with narfs view.

    SIGHUP has it read its configuration again, for views to come. Views come back when it is started again.
    """
    from narfs.daemon import background, hosting
    from narfs.daemon.directories import runtime_directory, state_directory
    from narfs.daemon.readiness import Announcer

    background.log_as_daemon(with_time=False)
    task = hosting.DaemonTask(
        load=request.load,
        runtime=runtime_directory(os.environ),
        state=state_directory(os.environ),
        environ=os.environ,
        group=hosting.group_of(group),
    )
    hosting.run(task, Announcer(None, os.environ))


@click.group(
    epilog="""\b
Examples:
  narfs view create build-17 --closure ./result --at /srv/build-17/store
  narfs view list
  narfs view remove build-17 --json"""
)
def view() -> None:
    """Make, list and remove the views of narfs daemon."""


_NAME = click.argument("name")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
_OWN = (
    "store",
    "index-stores",
    "trusted-public-keys",
    "trusted-index-keys",
    "netrc-file",
    "verify",
    "read-deadline",
    "fetch-bytes",
    "bandwidth",
    "bandwidth-share",
    "prefetch-bytes",
    "frontend",
    "profile",
    "profile-store",
)


@view.command(
    epilog="""\b
Examples:
  narfs view create build-17 --drv ./x.drv --at /srv/17/store --owner-pid $$
  narfs view create all                       everything the daemon's stores have
  narfs view create ci --closure ./result --store https://ours.example --trusted-public-keys ours-1:..."""
)
@_NAME
@selection
@click.option("--drv", "drvs", multiple=True, type=click.Path(path_type=Path), help="Show what building it needs.")
@click.option("--at", type=click.Path(path_type=Path), help="An empty directory to show it at.")
@click.option("--nix-socket", type=click.Path(path_type=Path), help="Answer Nix there what is known of its paths.")
@click.option("--owner-pid", type=int, metavar="PID", help="Remove it when this process ends.")
@click.option("--lease", "lease_s", type=float, metavar="SECONDS", help="Remove it unless narfs view renew comes.")
@settings(*_OWN, file=False)
@_AS_JSON
def create(
    *,
    name: str,
    select: Callable[[], Selection],
    drvs: tuple[Path, ...],
    at: Path | None,
    nix_socket: Path | None,
    owner_pid: int | None,
    lease_s: float | None,
    request: ConfigRequest,
    as_json: bool,
) -> None:
    """Make a view called NAME and say where it is, when it is usable.

    Without paths it is open: it shows whatever the stores have. Stores and keys are the daemon's unless given here.
    """
    from narfs.daemon.views import asking

    told = asking.create(
        name,
        select(),
        drvs=drvs,
        at=at,
        nix_socket=nix_socket,
        owner_pid=owner_pid,
        lease_s=lease_s,
        settings=request.given,
        environ=os.environ,
    )
    print_json(told) if as_json else print_line(os.fsencode(told["directory"]))


@view.command(name="list")
@_AS_JSON
def list_(as_json: bool) -> None:
    """List the views: name, number of paths, frontend, where it is, why that frontend."""
    from narfs.daemon.views import asking

    told = asking.ask("view-list", environ=os.environ)
    if as_json:
        print_json(told)
        return
    for one in told:
        columns = (one["name"], str(one["paths"]), one["frontend"], one["directory"], one["frontend_because"])
        print_line(os.fsencode("\t".join(columns)))


@view.command()
@_NAME
@click.option("--lazy", is_flag=True, help="Also if programs are in it: they keep what they have open.")
@REPORTS
@_AS_JSON
def remove(name: str, lazy: bool, reports: tuple[Path, ...], as_json: bool) -> None:
    """Remove a view; --json prints what was read of it."""
    from narfs.daemon.reports.keeping import keeping
    from narfs.daemon.views import asking

    with keeping(reports) as keep:
        told = asking.remove(name, lazily=lazy, environ=os.environ)
        keep(told)
    if as_json:
        print_json(told)


@view.command()
@_NAME
def renew(name: str) -> None:
    """Begin the lease of a view anew."""
    from narfs.daemon.views import asking

    asking.ask("view-renew", {"name": name}, environ=os.environ)


@view.command(
    epilog="""\b
Examples:
  narfs view report build-17                     which paths were read, how much, and which never
  narfs view report build-17 --html report.html  the same as a picture
  narfs view report ~/store                      of what narfs mount shows there"""
)
@click.argument("name", metavar="NAME|MOUNTPOINT")
@click.option(
    "--html", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write a page to look at: one file."
)
@_AS_JSON
def report(name: str, file: Path | None, as_json: bool) -> None:
    """Say what was read of a view, path by path: files opened, bytes read, fetched for it, and waited for.

    A mountpoint is told from a name by a slash in it.
    """
    from narfs.daemon.reports.asking import report_on
    from narfs.daemon.reports.keeping import keep_page
    from narfs.daemon.reports.table import sums, table

    told = report_on(name, environ=os.environ)
    if file is not None:
        keep_page(told, file)
    if as_json:
        print_json(told)
    elif file is None:
        for line in table(told):
            print_line(os.fsencode(line))
        click.echo(sums(told), err=True)
