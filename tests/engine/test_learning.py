"""What is kept of a profile after one more run."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from narfs.engine.ahead.learning import FORGOTTEN_AFTER, continued, joined, learned
from narfs.formats.profile import MAX_READS, Place, Profile, Read

A, B = Place("a-1.0", 0, b"x"), Place("b-1.0", 0, b"y")

Block = tuple[Place, int]


def run(*blocks: Block) -> list[Read]:
    return [Read(number, place, block, block) for number, (place, block) in enumerate(blocks)]


def of(profile: Profile | None, *, unseen: bool | None = None) -> list[Block]:
    assert profile is not None
    return [
        (read.place, block)
        for read in profile.reads
        if unseen is None or bool(read.unseen) is unseen
        for block in range(read.first, read.last + 1)
    ]


def many(place: Place, count: int, start: int = 0) -> list[Block]:
    return [(place, 2 * number) for number in range(start, start + count)]


def test_blocks_that_follow_each_other_are_one_read() -> None:
    reads = run((A, 0), (A, 1), (B, 5), (A, 2), (A, 3), (A, 9))
    assert [(read.place, read.first, read.last, read.at_ms) for read in joined(reads)] == [
        (A, 0, 1, 0),
        (B, 5, 5, 2),
        (A, 2, 3, 3),
        (A, 9, 9, 5),
    ]


def test_the_first_run_is_kept_as_it_was_and_nothing_is_nothing() -> None:
    assert learned(None, []) is None
    assert of(learned(None, run((B, 1), (A, 7)))) == [(B, 1), (A, 7)]
    kept = learned(None, run((A, 1)))
    assert learned(kept, []) == kept


def test_the_order_is_that_of_the_last_run() -> None:
    kept = learned(None, run(*many(A, 8), *many(B, 8)))
    assert of(learned(kept, run(*many(B, 8), *many(A, 8)))) == many(B, 8) + many(A, 8)


def test_what_was_not_read_is_kept_behind_for_some_runs_and_then_forgotten() -> None:
    kept = learned(None, run(*many(A, 32), (B, 0), (B, 1)))
    for _ in range(FORGOTTEN_AFTER):
        kept = learned(kept, run(*many(A, 32)))
        assert of(kept) == [*many(A, 32), (B, 0), (B, 1)]
    assert of(learned(kept, run(*many(A, 32)))) == many(A, 32)


def test_what_is_read_again_is_seen_again() -> None:
    kept = learned(None, run(*many(A, 32), (B, 0)))
    kept = learned(kept, run(*many(A, 32)))
    assert of(kept, unseen=True) == [(B, 0)]
    assert of(learned(kept, run((B, 0), *many(A, 32))), unseen=True) == []


def test_of_two_programs_under_one_name_the_last_one_counts() -> None:
    kept = learned(None, run(*many(A, 80)))
    kept = learned(kept, run(*many(B, 80)))
    assert of(kept, unseen=False) == many(B, 80)
    assert len(of(kept, unseen=True)) == 10


def test_a_run_that_failed_changes_nothing_until_it_is_the_third() -> None:
    good = learned(None, run(*many(A, 80)))
    once = learned(good, run(*many(B, 19)))
    twice = learned(once, run(*many(B, 19)))
    assert of(once) == of(twice) == many(A, 80)
    assert of(learned(twice, run(*many(A, 80)))) == many(A, 80)
    believed = learned(twice, run(*many(B, 19)))
    assert of(believed, unseen=False) == many(B, 19)
    assert believed is not None
    assert believed.failed_runs == 0


def test_another_version_of_a_package_takes_the_place_of_the_one_before() -> None:
    newer = Place("a-1.1", 0, b"x")
    assert of(learned(learned(None, run(*many(A, 16))), run(*many(newer, 16)))) == many(newer, 16)


def test_parts_of_a_read_are_forgotten_by_themselves() -> None:
    kept = Profile((Read(0, A, 0, 9),))
    told = learned(kept, [Read(0, A, 2, 3), Read(0, A, 6, 6), Read(1, B, 0, 99)])
    assert told is not None
    assert [(read.first, read.last) for read in told.reads if read.unseen] == [(0, 1), (4, 5), (7, 9)]


def test_a_run_that_goes_on_adds_what_it_reads_and_forgets_nothing() -> None:
    kept = learned(learned(None, run(*many(A, 32), (B, 0))), run(*many(A, 32)))
    after = continued(kept, run((A, 0), (A, 1), (B, 0), (B, 1)))
    assert of(after) == [*many(A, 32), (B, 0), (A, 1), (B, 1)]
    assert of(after, unseen=True) == [(B, 0)]
    assert of(continued(None, run((A, 0)))) == [(A, 0)]
    assert continued(None, []) is None


blocks = st.lists(st.tuples(st.sampled_from([A, B, Place("a-2", 0, b"x")]), st.integers(0, 40)), unique=True)


@given(st.lists(blocks, min_size=1, max_size=8))
def test_all_of_the_last_run_is_there_and_an_eighth_of_it_besides(runs: list[list[Block]]) -> None:
    kept: Profile | None = None
    for each in runs:
        before, kept = kept, learned(kept, run(*each))
        if kept is None or kept == before or kept.failed_runs:
            continue
        assert sorted(of(kept, unseen=False)) == sorted(each)
        assert len(of(kept, unseen=True)) <= len(each) / 8


def test_the_largest_and_strangest_profiles_are_merged_in_no_time() -> None:
    every = [Read(0, Place("a", 0, b"%d" % number), 0, 0) for number in range(MAX_READS)]
    others = [Read(0, Place("b", 0, b"%d" % number), 0, 0) for number in range(MAX_READS)]
    spans = [Read(0, A, 4 * number, 4 * number + 1) for number in range(MAX_READS)]
    backwards = [Read(0, A, number, number) for number in reversed(range(MAX_READS))]
    begun = time.process_time()
    learned(Profile(tuple(every)), others)
    learned(Profile(tuple(spans)), spans)
    learned(Profile((Read(0, A, 0, 2**32 - 1),) * MAX_READS), spans)
    learned(Profile((Read(0, A, 0, MAX_READS - 1),) * MAX_READS), backwards)
    assert time.process_time() - begun < 5  # half a second, mostly
