"""What a control socket offers of prefetching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from narfs.daemon.selection import PathName, Selection
from narfs.daemon.status import as_json
from narfs.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from narfs.daemon.prefetching.jobs import JobFacts, Jobs, Start
    from narfs.daemon.session import Session
    from narfs.engine.accessor import NarAccessor
    from narfs.mount.view import View

    Operations = dict[str, Callable[[Mapping[str, Any]], Awaitable[object]]]
    Begin = Callable[[str | None, Selection | None, int | None], Awaitable[JobFacts]]
    """Begins a job: of a View (None: of none), for a selection (None: all of the View), within bytes."""


def operations(jobs: Jobs, begin: Begin) -> Operations:
    """Give what is offered by name."""

    async def prefetch(arguments: Mapping[str, Any]) -> object:
        view, most_bytes = arguments.get("view"), arguments.get("most_bytes")
        if not isinstance(view, str | None):
            raise UsageError("view: expected the name of a view")
        if most_bytes is not None and (not isinstance(most_bytes, int) or most_bytes <= 0):
            raise UsageError("most_bytes: expected a number of bytes")
        return as_json(await begin(view, _selection(arguments), most_bytes))

    async def look(arguments: Mapping[str, Any]) -> object:
        number = arguments.get("id")
        if not isinstance(number, int):
            raise UsageError("id: expected the number of a prefetch")
        return as_json(jobs.facts(number))

    return {"prefetch": prefetch, "prefetch-status": look}


async def accessors_of(session: Session, view: View | None, selection: Selection | None) -> list[NarAccessor]:
    """Find the NARs of a selection; NotFound for what no store has, or a closed View has not."""
    if selection is None:
        if view is None:
            raise UsageError("paths: expected at least one store path")
        paths = Selection(closed=True, paths=tuple(_named(each.path.base_name) for each in view.attachments))
        members = await session.members(paths)
    else:
        members = await session.members(selection, unseal=True)
    if view is not None and view.closed:
        for member in members:
            if view.named(member.narinfo.path.base_name.encode()) is None:
                raise NotFound(f"{member.narinfo.path.path}: the view does not show it")
    return [accessor for _, accessor in await session.accessors(members)]


def of_one(session: Session, jobs: Jobs, start: Start, view: View | None = None) -> Begin:
    """Begin jobs where there is one session, with one View or none."""

    async def begin(name: str | None, selection: Selection | None, most_bytes: int | None) -> JobFacts:
        if name is not None:
            raise UsageError(f"view {name}: this process has no views by name; narfs daemon has")
        return jobs.begin(await accessors_of(session, view, selection), most_bytes, start)

    return begin


def _named(base_name: str) -> PathName:
    return PathName.parse(base_name)


def _selection(arguments: Mapping[str, Any]) -> Selection | None:
    paths = arguments.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UsageError("paths: expected a list of store paths")
    if not paths:
        return None
    names = tuple(map(PathName.parse, paths))
    return Selection(closed=True, closures=names) if arguments.get("closure") else Selection(closed=True, paths=names)
