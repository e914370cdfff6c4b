"""A store path of very many small files, whose names and contents follow from their numbers."""

from __future__ import annotations

from tests.support.trees import File, Tree

_IN_A_DIRECTORY = 1000


def name_of(number: int) -> str:
    return f"d{number // _IN_A_DIRECTORY:04}/f{number % _IN_A_DIRECTORY:03}"


def contents_of(number: int) -> bytes:
    return b"%d is the number of this file\n" % number


def tree_of(files: int) -> dict[bytes, Tree]:
    tree: dict[bytes, Tree] = {}
    for first in range(0, files, _IN_A_DIRECTORY):
        numbers = range(first, min(files, first + _IN_A_DIRECTORY))
        tree[b"d%04d" % (first // _IN_A_DIRECTORY)] = {
            b"f%03d" % (number % _IN_A_DIRECTORY): File(contents_of(number)) for number in numbers
        }
    return tree
