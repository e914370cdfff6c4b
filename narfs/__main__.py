"""``python -m narfs``: the program, also where it is not on PATH."""

from __future__ import annotations

from narfs.cli import main

main()
