from __future__ import annotations

import pytest

from narfs.errors import Corrupt, FormatError
from narfs.mount.roots import Roots
from narfs.mount.view import View
from narfs.mount.waits import Waits
from tests.mount.model import MemoryAccessor, MemorySource, path


def _broken() -> MemoryAccessor:
    accessor = MemoryAccessor({}, verified=False, peeked=False)
    accessor.fail(FormatError("zstd NAR", offset=3, expected="sound data", found="none"))
    return accessor


async def test_an_open_view_names_the_path_whose_nar_is_no_nar() -> None:
    source = MemorySource()
    source.add("one", _broken())
    roots = Roots(View(closed=False), source, Waits(), deadline_s=5)
    with pytest.raises(Corrupt, match=f"{path('one').base_name}: zstd NAR: at byte 3"):
        await roots.find(path("one"))


async def test_a_closed_view_names_the_path_whose_nar_is_no_nar() -> None:
    view = View.of([(path("one"), _broken())])
    roots = Roots(view, None, Waits(), deadline_s=5)
    await roots.learn_all()
    with pytest.raises(Corrupt, match=f"{path('one').base_name}: zstd NAR"):
        roots.show(view.attachments[0])
