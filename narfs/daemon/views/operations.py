"""What a control socket offers of the Views of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from narfs.daemon.registering import registration_aside
from narfs.daemon.reports.report import report
from narfs.daemon.views.spec import ViewSpec
from narfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from narfs.daemon.views.keeper import Views


def operations(views: Views) -> dict[str, Callable[[Mapping[str, Any]], Awaitable[object]]]:
    """Give what a control socket offers by name."""

    async def create(arguments: Mapping[str, Any]) -> object:
        return (await views.create(ViewSpec.from_json(arguments))).facts()

    async def remove(arguments: Mapping[str, Any]) -> object:
        return await views.remove(_name(arguments), lazily=bool(arguments.get("lazily", False)))

    async def renew(arguments: Mapping[str, Any]) -> object:
        name = _name(arguments)
        if not views.named(name).owner.renew():
            raise UsageError(f"view {name} has no lease")
        return None

    async def list_all(_: Mapping[str, Any]) -> object:
        return views.facts()

    async def tell(arguments: Mapping[str, Any]) -> object:
        kept = views.named(_name(arguments))
        return await report(kept.spec.name, kept.scene, kept.account)

    async def tell_registration(arguments: Mapping[str, Any]) -> object:
        return await registration_aside(views.named(_name(arguments)).known)

    return {
        "view-create": create,
        "view-remove": remove,
        "view-renew": renew,
        "view-list": list_all,
        "view-report": tell,
        "view-registration": tell_registration,
    }


def _name(arguments: Mapping[str, Any]) -> str:
    name = arguments.get("name")
    if not isinstance(name, str):
        raise UsageError("name: expected a text")
    return name
