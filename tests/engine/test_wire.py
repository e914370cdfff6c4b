"""What loop and worker say to each other arrives as it was meant."""

from __future__ import annotations

import inspect

import pytest

from narfs import errors
from narfs.engine.wire import HEADER, Order, Say, failure_from_bytes, failure_to_bytes, pack
from narfs.errors import CacheHeld, Corrupt, FormatError, NarfsError, Unavailable


def test_a_message_is_its_kind_its_pass_its_length_and_its_payload() -> None:
    message = pack(Say.DATA, 7, b"abc")
    assert HEADER.unpack_from(message) == (Say.DATA, 7, 3)
    assert message[HEADER.size :] == b"abc"


def test_an_order_arrives_as_it_was_given() -> None:
    order = Order("zstd", "00" * 32, 2**63, kept=True, progressive=True)
    assert Order.from_bytes(order.to_bytes()) == order


SIMPLE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, NarfsError) and kind not in {FormatError, CacheHeld}
]


@pytest.mark.parametrize("kind", SIMPLE)
def test_every_error_of_the_tree_arrives_as_what_it_was(kind: type[NarfsError]) -> None:
    error = failure_from_bytes(failure_to_bytes(kind("what, where, what to do")))
    assert type(error) is kind
    assert str(error) == "what, where, what to do"


def test_a_format_error_still_knows_where() -> None:
    sent = FormatError("NAR", offset=9, expected="(", found="x")
    error = failure_from_bytes(failure_to_bytes(sent))
    assert isinstance(error, FormatError)
    assert vars(error) == vars(sent)


def test_a_bug_in_the_worker_is_trouble_for_the_reader_and_names_itself() -> None:
    error = failure_from_bytes(failure_to_bytes(ZeroDivisionError("oops")))
    assert type(error) is Unavailable
    assert "ZeroDivisionError('oops')" in str(error)
    assert not isinstance(error, Corrupt)
