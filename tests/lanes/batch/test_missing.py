"""The comparison of the lines that a service counts with those that it hands out."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runner.lanes.batch.ledger import Shard
from runner.lanes.batch.missing import MissingLines, missing_lines

LINES = st.lists(st.tuples(st.sampled_from(["answer", "failure", "not run"]), st.booleans()), min_size=1, max_size=30)


def shard(requests: int, finished: int, failed: int = 0) -> Shard:
    return Shard(0, "reconcile", "s", "u", requests, 1, finished=finished, failed=failed)


@given(LINES, st.booleans())
def test_right_counts_say_exactly_what_is_missing(lines: list[tuple[str, bool]], counts_failures: bool) -> None:
    """A service that counts its failures as answered says at most too much about what was paid for."""
    answers, failures = ([here for kind, here in lines if kind == wanted] for wanted in ("answer", "failure"))
    counted = shard(len(lines), len(answers) + len(failures), len(failures) if counts_failures else 0)
    found = missing_lines(counted, sum(answers), sum(failures), 0)
    lost_answers, lost_failures = answers.count(False), failures.count(False)
    assert found.lines == lost_answers + lost_failures
    assert found.answers == (lost_answers if counts_failures else found.lines)


def test_counts_that_are_not_given_or_too_large_say_nothing() -> None:
    assert missing_lines(shard(6, 0), 3, 0, 0) == MissingLines()
    assert missing_lines(shard(6, 600, 20), 3, 0, 0) == MissingLines()


def test_a_file_that_ends_within_a_line_lacks_one_even_without_counts() -> None:
    assert missing_lines(shard(6, 0), 3, 0, 1) == MissingLines(1, 0)
    assert missing_lines(shard(6, 6), 3, 0, 1) == MissingLines(3, 3)
    assert missing_lines(shard(6, 6), 6, 0, 1) == MissingLines()


def test_files_without_one_line_of_the_shard_lack_all_unless_nothing_was_answered() -> None:
    everything = MissingLines(6, 6)
    completed = msgspec.structs.replace(shard(6, 0), ended="completed", output_file_id="f")
    expired = msgspec.structs.replace(completed, ended="expired")
    assert missing_lines(completed, 0, 0, 0) == everything
    assert missing_lines(completed, 0, 1, 0) == MissingLines()
    assert missing_lines(expired, 0, 0, 0, strange=1) == everything
    assert missing_lines(expired, 0, 0, 0) == MissingLines()
    all_failed = msgspec.structs.replace(completed, finished=6, failed=6)
    assert missing_lines(all_failed, 0, 0, 0, strange=9) == MissingLines(6, 0)
