from __future__ import annotations

import subprocess
import sys

import pytest
import trio

from narfs.daemon import event_loop
from narfs.errors import NotFound


async def _fail(*failures: BaseException) -> None:
    async def fail(failure: BaseException) -> None:
        raise failure

    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        for failure, nursery in zip(failures, (outer, inner), strict=False):
            nursery.start_soon(fail, failure)


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ((NotFound("x"),), NotFound),
        ((NotFound("x"), ZeroDivisionError()), ZeroDivisionError),
        ((KeyboardInterrupt(), NotFound("x")), KeyboardInterrupt),
    ],
)
def test_of_several_failures_the_most_telling_is_raised(
    failures: tuple[BaseException, ...], told: type[BaseException]
) -> None:
    with pytest.raises(told):
        event_loop.run(lambda: _fail(*failures))


STANDING = """if 1:
    import ctypes, trio
    from narfs.daemon import event_loop

    async def stand(still):
        await trio.sleep(0.15)
        ctypes.PyDLL(None).usleep(600_000 if still else 0)  # with the interpreter's lock

    event_loop.run_service(lambda: stand({still}), still_s=0.1)
"""


@pytest.mark.parametrize("still", [True, False])
def test_a_loop_that_stands_still_says_where(*, still: bool) -> None:
    command = [sys.executable, "-c", STANDING.format(still=still)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (" in stand" in done.stderr) == still
