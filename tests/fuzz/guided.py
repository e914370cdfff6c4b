"""One process that fuzzes one target: ``python -m tests.fuzz.guided TARGET DIRECTORY [option of libFuzzer]...``.

The parsers are instrumented as they are imported; so nothing of narfs may be imported before.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]  # ships no annotations
import trio

with atheris.instrument_imports(include=["narfs", "h11"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS, judge


def main() -> None:
    program, target, *rest = sys.argv
    names = list(TARGETS)

    def one(data: bytes) -> None:
        judge(target, data)

    def any_of_them(data: bytes) -> None:
        if data:
            judge(names[data[0] % len(names)], data[1:])

    async def fuzz() -> None:
        atheris.Setup([program, *rest], any_of_them if target == "all" else one)
        atheris.Fuzz()

    trio.run(fuzz)


main()
