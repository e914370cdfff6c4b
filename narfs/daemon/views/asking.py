"""The asking side of ``narfs view``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from narfs.daemon import control, overlays
from narfs.daemon.directories import runtime_directory
from narfs.daemon.profiles.naming import name_of_builds
from narfs.daemon.readiness import READY_DEADLINE_S
from narfs.daemon.selection import PathName
from narfs.daemon.views.inputs import inputs_of
from narfs.daemon.views.spec import ViewSpec
from narfs.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from narfs.daemon.selection import Selection


def create(
    name: str,
    selection: Selection,
    *,
    drvs: Iterable[Path],
    at: Path | None,
    nix_socket: Path | None,
    owner_pid: int | None,
    lease_s: float | None,
    settings: Mapping[str, object],
    environ: Mapping[str, str],
) -> dict[str, Any]:
    """Have a View made and give its facts; ``drvs`` add the closures of what building them starts from."""
    drvs = list(drvs)
    roots = tuple(PathName(path.hash_part, path) for drv in drvs for path in inputs_of(drv))
    if roots:
        selection = replace(selection, closed=True, closures=(*selection.closures, *roots))
    spec = ViewSpec(
        name=name,
        selection=selection,
        at=None if at is None else at.absolute(),
        nix_socket=None if nix_socket is None else nix_socket.absolute(),
        settings=settings,
        profile=name_of_builds(drv.resolve().name for drv in drvs),
        owner_pid=owner_pid,
        lease_s=lease_s,
    )
    told: dict[str, Any] = ask("view-create", spec.to_json(), environ=environ)
    return told


def remove(name: str, *, lazily: bool, environ: Mapping[str, str]) -> dict[str, Any]:
    """End a View and give what was read of it; UsageError if something is in it or over it, unless ``lazily``.

    An overlay over it is looked for here as well as there: the daemon has given up the capabilities with which root
    sees into other mount namespaces.
    """
    if not lazily:
        overlays.check_bare(name, facts(name, environ)["directory"])
    told: dict[str, Any] = ask("view-remove", {"name": name, "lazily": lazily}, environ=environ)
    return told


def facts(name: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Give what ``narfs view list`` says of one View; NotFound."""
    for told in ask("view-list", environ=environ):
        if told["name"] == name:
            return dict(told)
    raise NotFound(f"there is no view named {name}; narfs view list tells which there are")


def ask(operation: str, arguments: Mapping[str, object] | None = None, *, environ: Mapping[str, str]) -> Any:
    """Ask the daemon; Unavailable says how to start one if there is none."""
    socket = runtime_directory(environ) / control.DAEMON_SOCKET
    if not socket.exists():
        raise Unavailable(f"{socket}: no daemon is running; start it with narfs daemon, or systemctl start narfs")
    return control.ask(socket, operation, arguments, deadline_s=READY_DEADLINE_S)
