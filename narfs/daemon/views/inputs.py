"""What a build needs to see: outputs of its derivation's inputs, and sources. Read where the ``.drv`` files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from narfs.errors import UsageError
from narfs.formats.derivation import Derivation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.formats.store_path import StorePath


def inputs_of(drv: Path) -> Sequence[StorePath]:
    """Give what building ``drv`` starts from; its View is their closure. UsageError if a ``.drv`` cannot be read.

    The derivations of its inputs are looked for in the store, and beside it.
    """
    derivation = _read(drv)
    found = list(derivation.input_sources)
    for path, names in derivation.input_derivations.items():
        places = [Path(path.path), drv.parent / path.base_name]
        place = next((each for each in places if each.exists()), None)
        if place is None:
            raise UsageError(f"{drv}: its input {path.path} is neither in the store nor beside it")
        outputs = _read(place).outputs
        for name in names:
            output = outputs.get(name)
            if output is None:
                raise UsageError(f"{place}: the path of its output {name} is known only when it was built")
            found.append(output)
    return sorted(set(found))


def _read(drv: Path) -> Derivation:
    try:
        return Derivation.parse(drv.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise UsageError(f"{drv}: {error.strerror}") from error
