"""ELF files that say what a test wants them to say. Nothing can run them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOAD, _DYNAMIC, _INTERP = 1, 2, 3
_NEEDED, _STRTAB, _STRSZ, _RPATH, _RUNPATH = 1, 5, 10, 15, 29
_BASE = 0x40_0000
"""Address of the file's first byte."""


def elf_file(
    *,
    interpreter: bytes = b"",
    needed: Sequence[bytes] = (),
    runpath: bytes = b"",
    rpath: bytes = b"",
    wide: bool = True,
    order: str = "<",
    padding: int = 0,
) -> bytes:
    """Write one: header, program headers, ``padding`` bytes of code, interpreter, strings, dynamic section."""
    strings, places = bytearray(b"\0"), {}
    for text in (*needed, runpath, rpath):
        places[text] = len(strings)
        strings += text + b"\0"
    entries = [(_NEEDED, places[name]) for name in needed]
    entries += [(tag, places[text]) for tag, text in ((_RPATH, rpath), (_RUNPATH, runpath)) if text]

    header_bytes, entry_bytes = (64, 56) if wide else (52, 32)
    count = 3 + bool(interpreter)
    interp_at = header_bytes + count * entry_bytes + padding
    strings_at = interp_at + len(interpreter) + 1
    entries += [(_STRTAB, _BASE + strings_at), (_STRSZ, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack(order + ("QQ" if wide else "II"), *entry) for entry in entries)
    dynamic_at = strings_at + len(strings)
    size = dynamic_at + len(dynamic)

    def program_header(kind: int, flags: int, at: int, length: int) -> bytes:
        if wide:
            return struct.pack(order + "IIQQQQQQ", kind, flags, at, _BASE + at, _BASE + at, length, length, 8)
        return struct.pack(order + "8I", kind, at, _BASE + at, _BASE + at, length, length, flags, 8)

    headers = [
        program_header(_LOAD, 5, 0, interp_at),
        program_header(_LOAD, 4, interp_at, size - interp_at),
        program_header(_DYNAMIC, 6, dynamic_at, len(dynamic)),
    ]
    if interpreter:
        headers.append(program_header(_INTERP, 4, interp_at, len(interpreter) + 1))
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + bytes(9)
    fields = (3, 62, 1, 0, header_bytes, 0, 0, header_bytes, entry_bytes, count, 0, 0, 0)
    header = ident + struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *fields)
    return b"".join((header, *headers, b"\x90" * padding, interpreter, b"\0", strings, dynamic))
