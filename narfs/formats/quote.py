"""How a stranger's bytes are shown in an error: printable, on one line, never long."""

from __future__ import annotations

MAX_QUOTE_CHARS = 80
"""As ``FormatError.found`` promises; long enough for a store path's hash and a good part of its name."""


def quote(strange: bytes | str) -> str:
    """Show the beginning of ``strange`` as an ASCII literal of at most MAX_QUOTE_CHARS characters."""
    shown = ascii(strange[:MAX_QUOTE_CHARS])
    if len(strange) <= MAX_QUOTE_CHARS and len(shown) <= MAX_QUOTE_CHARS:
        return shown
    return shown[: MAX_QUOTE_CHARS - 3] + "..."
