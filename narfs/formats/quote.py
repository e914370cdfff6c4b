"""How a stranger's bytes are shown: printable, on one line; in an error never long."""

from __future__ import annotations

MAX_QUOTE_CHARS = 80
"""As ``FormatError.found`` promises; long enough for a store path's hash and a good part of its name."""


def quote(strange: bytes | str) -> str:
    """Show the beginning of ``strange`` as an ASCII literal of at most MAX_QUOTE_CHARS characters."""
    shown = ascii(strange[:MAX_QUOTE_CHARS])
    if len(strange) <= MAX_QUOTE_CHARS and len(shown) <= MAX_QUOTE_CHARS:
        return shown
    return shown[: MAX_QUOTE_CHARS - 3] + "..."


def printable(text: str) -> str:
    r"""Write what a terminal or a browser would obey or could not show as ``\x1b``, and a backslash twice."""
    return "".join(_printable(character) for character in text)


def one_line(text: str) -> str:
    r"""Write as ``printable`` does, but with each backslash as it is: a sentence for people, not a name."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _printable(character: str) -> str:
    return "\\\\" if character == "\\" else _visible(character)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors=errors))
