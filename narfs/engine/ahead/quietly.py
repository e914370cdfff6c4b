"""Doing what nobody has asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from narfs.errors import NarfsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)


async def quietly(work: Callable[[], Awaitable[object]]) -> None:
    """Do it as far as it goes: what fails will be told to whoever reads it."""
    try:
        await work()
    except NarfsError as error:
        _log.debug("not done ahead: %s", error)
    except Exception:  # noqa: BLE001 - the View must outlive a bug in what nobody has asked for
        _log.exception("a bug ended what was done ahead")
