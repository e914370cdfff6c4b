"""docs/semantics.md names a test for each of its sentences; this holds that they exist."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PLACES = (HERE, HERE.parent / "whole", HERE.parent / "systemd")
DOCUMENT = HERE.parent.parent / "docs" / "semantics.md"


def test_every_test_the_document_names_exists() -> None:
    there = {
        name
        for place in PLACES
        for file in place.glob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT.read_text()))
    assert named
    assert not named - there


def test_every_test_of_semantics_is_named_in_the_document() -> None:
    text = (HERE / "test_semantics.py").read_text() + (HERE / "test_caching.py").read_text()
    assert not set(re.findall(r"^async def (test_\w+)", text, re.MULTILINE)) - set(
        re.findall(r"`(test_\w+)`", DOCUMENT.read_text())
    )
