"""What a list of batches proves about a creation whose reply was lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.lanes.batch import Ledger, listing
from runner.lanes.batch.job_status import BatchJob
from runner.lanes.batch.ledger import Shard
from runner.lanes.batch.listing import ListedBatch, Listing, Witness, find, new_mark, witnesses

NOW, MARK = 1_700_000_000.0, new_mark()
LOST = Shard(7, "confirm", "default", "http://here/v1", 40, 1, input_file_id="mine", mark=MARK, sent_at=NOW)
KNOWN = Witness("known", "its file")


def listed(name: str, file: str | None = "a file", **more: Any) -> ListedBatch:
    return ListedBatch(BatchJob(name, "running", "Running", True), file, **more)


SEEN = listed("known", "its file")
OLD = listed("old", created_at=NOW - 10_000)


@pytest.mark.parametrize(
    ("batches", "known", "proven_after", "doubt"),
    [
        ([SEEN], [KNOWN], 300, ""),
        ([SEEN, listed("x", created_at=NOW)], [KNOWN], 300, ""),  # the list tells files apart: x is another's
        ([OLD], [], 1200, ""),
        ([listed("x", total=39, created_at=NOW), OLD], [], 1200, ""),
        ([listed("x", created_at=NOW, labels=frozenset({new_mark()})), OLD], [], 1200, ""),
        ([], [], math.inf, "empty"),
        ([], [KNOWN], math.inf, "empty"),
        ([OLD], [KNOWN], math.inf, "lacks the batch known"),
        ([listed("known", "raw-file")], [KNOWN], math.inf, "has the input file raw-file, but it has its file"),
        ([listed("known", None)], [KNOWN], math.inf, "has the input file None"),
        ([listed("x", created_at=NOW), OLD], [], math.inf, "about that time"),
        ([listed("x", created_at=NOW - 300, total=40)], [], math.inf, "about that time"),
        ([listed("x", total=0)], [], math.inf, "about that time"),
        ([SEEN, listed("x", None)], [KNOWN], math.inf, "about that time"),
    ],
)
def test_when_absence_counts(
    batches: Any, known: Any, proven_after: float, doubt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "ABSENT_SECONDS", 300.0)
    monkeypatch.setattr(listing, "ABSENT_ALONE_SECONDS", 1200.0)
    finding = find(LOST, Listing(tuple(batches)), known, {"known"})
    assert (finding.batch, finding.proven_after) == (None, proven_after)
    assert doubt in finding.doubt and bool(doubt) == bool(finding.doubt)
    cut = find(LOST, Listing(tuple(batches), is_whole=False), known, {"known"})
    assert cut.proven_after == math.inf


def test_a_batch_is_recognised_by_its_file_or_its_mark() -> None:
    for ours in (listed("new", "mine"), listed("new", "raw-mine", labels=frozenset({"x", MARK}))):
        assert find(LOST, Listing((ours, OLD), is_whole=False), [KNOWN], {"known"}).batch == ours
    recorded = listed("former", "mine")
    assert find(LOST, Listing((recorded, SEEN)), [KNOWN], {"former", "known"}).batch is None
    unmarked = Shard(7, "confirm", "default", "http://here/v1", 40, 1, input_file_id="mine", sent_at=NOW)
    assert find(unmarked, Listing((listed("x", "y"),)), [], ()).batch is None


some = st.builds(
    listed,
    st.sampled_from(["known", "a", "b", "c"]),
    st.sampled_from([None, "mine", "its file", "other"]),
    created_at=st.sampled_from([None, NOW - 10_000, NOW]),
    total=st.sampled_from([None, 0, 39, 40]),
    labels=st.sampled_from([frozenset(), frozenset({MARK}), frozenset({"judge-runner-other"})]),
)


@given(st.lists(some, max_size=5), st.booleans(), st.booleans())
def test_nothing_that_may_be_ours_is_taken_for_absent(batches: list[ListedBatch], is_whole: bool, knows: bool) -> None:
    finding = find(LOST, Listing(tuple(batches), is_whole), [KNOWN] if knows else [], {"known"} if knows else set())
    strangers = [one for one in batches if not (knows and one.job.id == "known")]
    ours = [one for one in strangers if one.input_file_id == "mine" or MARK in one.labels]
    assert (finding.batch in ours) if ours else finding.batch is None
    if not ours and finding.proven_after < math.inf:
        assert is_whole and batches
        assert not knows or any(one.job.id == "known" and one.input_file_id == "its file" for one in batches)
        may_be = [one for one in strangers if one.created_at != NOW - 10_000 and one.total != 39 and not one.labels]
        assert not [one for one in may_be if not knows or one.input_file_id is None]


def test_witnesses_are_open_batches_of_the_same_service_or_else_the_newest(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "batches")
    ledger.create()

    def save(number: int, step: Any, service: str = "default", **more: Any) -> None:
        fields = {"batch_id": f"b{number}", "input_file_id": f"f{number}", "created_at": NOW + number, **more}
        ledger.save(Shard(number, step, service, "http://here/v1", 1, 1, **fields))

    for number in range(5):
        save(number, "closed")
    save(5, "poll", service="other")
    save(6, "upload", batch_id=None)
    assert witnesses(ledger, LOST) == [Witness(f"b{n}", f"f{n}") for n in (4, 3, 2)]
    save(1, "poll")
    assert witnesses(ledger, LOST) == [Witness("b1", "f1")]
    again = Shard(8, "confirm", "default", "http://here/v1", 1, 1, input_file_id="mine", former=("gone", "last"))
    assert witnesses(ledger, again) == [Witness("last", "mine"), Witness("b1", "f1")]
