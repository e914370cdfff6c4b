from __future__ import annotations

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
