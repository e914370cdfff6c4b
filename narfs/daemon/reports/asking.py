"""The asking side: the Report of a view of the daemon, or of a mount."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from narfs.daemon import control
from narfs.daemon.directories import runtime_directory
from narfs.daemon.readiness import READY_DEADLINE_S
from narfs.daemon.views import asking as views
from narfs.errors import NotFound, Unavailable
from narfs.mount.mounted import mount_at, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def report_on(name: str, *, environ: Mapping[str, str]) -> dict[str, Any]:
    """Ask for the Report of a view, or, if ``name`` has a slash, of what is mounted there."""
    if "/" in name:
        place = place_of(Path(name))
        for socket in control.sockets(runtime_directory(environ), place):
            try:
                return _answer(control.ask(socket, "report", deadline_s=READY_DEADLINE_S))
            except Unavailable:
                if socket.exists():
                    raise
        here = mount_at(place)
        if here is None or here.view is None:
            raise NotFound(f"{place}: no narfs of yours is mounted there, nor a view of the daemon")
        name = here.view
    return _answer(views.ask("view-report", {"name": name}, environ=environ))


def _answer(told: Any) -> dict[str, Any]:
    assert isinstance(told, dict)  # noqa: S101 - our own other side says so
    return told
