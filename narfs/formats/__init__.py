"""Bytes in, values out: every format that Nix or narfs writes, and nothing that reads, waits, logs or knows the time.

The rule of the room: a parser takes bytes or text and gives a frozen value that is valid from birth, or raises
FormatError, whatever the bytes; what was parsed can be written again. Bounds are named constants beside the grammar.
Values are judged here by what they mean; whether anybody may rely on them is decided in ``engine``.
"""
