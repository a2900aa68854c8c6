"""Starting again: what is left over is put in order, and what is there need not be asked."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import make

from runner.errors import RunDirectoryError
from runner.results import (
    TRANSIENT_ERROR_TYPES,
    CompletionIndex,
    RowCounts,
    RunDirectory,
    completion,
    load_completion_index,
    recover_results,
    results_schema,
)
from runner.results.journal import Segment, segment_path
from runner.results.parts import part_path
from runner.types import Row

SCHEMA = results_schema(())
ONE = {("j", False, 0): 0}


def leave_segment(place: RunDirectory, number: int, rows: list[Row]) -> None:
    segment = Segment(segment_path(place.journal, number))
    for row in rows:
        segment.append(row)
    segment.close()


def start(place: RunDirectory) -> int:
    return recover_results(place.path, SCHEMA, "zstd")


def test_an_empty_directory_begins_with_part_0(place: RunDirectory) -> None:
    assert start(place) == 0


def test_segments_become_parts_of_their_own_numbers(place: RunDirectory, stored: Any) -> None:
    leave_segment(place, 3, [make(0), make(1)])
    leave_segment(place, 5, [make(2)])
    assert start(place) == 6
    assert sorted(path.name for path in place.results.iterdir()) == ["part-00003.parquet", "part-00005.parquet"]
    assert [row["ordinal"] for row in stored()] == [0, 1, 2]
    assert not list(place.journal.iterdir())


def test_a_segment_without_a_whole_row_vanishes(place: RunDirectory, stored: Any) -> None:
    segment_path(place.journal, 0).write_bytes(b'{"custom_id": "0-j')
    start(place)
    assert stored() == []
    assert not list(place.journal.iterdir())


def test_a_segment_whose_part_is_there_is_dropped(place: RunDirectory, keep: Any, stored: Any) -> None:
    keep([make(0, "part")])
    leave_segment(place, 0, [make(0, "part"), make(1, "was never here")])
    assert start(place) == 1
    assert [row["response"] for row in stored()] == ["part"]


@pytest.mark.parametrize("behind_footer", [False, True])
def test_an_unreadable_part_is_made_again_from_its_segment(
    place: RunDirectory, keep: Any, stored: Any, behind_footer: bool
) -> None:
    rows = [make(n) for n in range(400)]
    keep(rows)
    path = part_path(place.results, 0)
    content = bytearray(path.read_bytes())
    if behind_footer:
        content[4 : len(content) // 3] = bytes(len(content) // 3 - 4)
    else:
        del content[-30:]
    path.write_bytes(content)
    leave_segment(place, 0, rows)
    assert start(place) == 1
    assert [row["ordinal"] for row in stored()] == list(range(400))


def test_an_unreadable_part_without_its_segment_is_named(place: RunDirectory, keep: Any) -> None:
    keep([make(n) for n in range(4)], size=2)
    broken = part_path(place.results, 1)
    broken.write_bytes(b"PAR1 but no more")
    with pytest.raises(RunDirectoryError, match=r"part-00001\.parquet: .*its journal segment is gone"):
        start(place)
    assert broken.read_bytes() == b"PAR1 but no more"


def test_unfinished_files_are_removed_and_others_are_not(place: RunDirectory) -> None:
    for folder in (place.results, place.journal, place.path):
        (folder / ".part-00000.parquet.tmp").write_bytes(b"PAR1")
        (folder / "mine.tmp").write_bytes(b"")
    start(place)
    assert sorted(path.name for path in place.path.rglob("*.tmp")) == ["mine.tmp"] * 3


def test_a_row_that_replaces_one_goes_into_its_part(place: RunDirectory, keep: Any, stored: Any) -> None:
    keep([make(0, "old"), make(1, "old")])
    leave_segment(place, 1, [make(1, "new"), make(2, "fresh")])
    start(place)
    assert [(row["ordinal"], row["response"]) for row in stored()] == [(0, "old"), (1, "new"), (2, "fresh")]


rows_there = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.sampled_from(["j", "k", "gone"]),
        st.booleans(),
        st.integers(0, 1),
        st.sampled_from([("ok", None), ("unparsed", "conflict"), ("failed", "bad_request"), ("failed", "timeout")]),
    ),
    unique_by=lambda item: item[:4],
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    there=rows_there,
    samples=st.integers(1, 12),
    retry=st.sets(st.sampled_from(["failed", "unparsed"])),
    batch=st.sampled_from([1, 3, completion.ROWS_PER_READ]),
)
def test_what_is_left_is_the_dataset_minus_the_rows(
    tmp_path_factory: Any, loop: asyncio.Runner, there: list[Any], samples: int, retry: set[str], batch: int
) -> None:
    place = RunDirectory(tmp_path_factory.mktemp("scan"))
    place.prepare()
    rows = []
    for ordinal, judge, swapped, repeat, (status, error) in there:
        name = f"{ordinal}-{judge}-{'s' if swapped else 'o'}-{repeat}"
        own = {"judge": judge, "swapped": swapped, "repeat": repeat, "status": status, "error_type": error}
        rows.append(make(ordinal, custom_id=name, cost=ordinal / 4, **own))
    if rows:
        leave_segment(place, 0, rows)
    start(place)
    keys = [(judge, swapped, repeat) for judge in ("j", "k") for swapped in (False, True) for repeat in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "ROWS_PER_READ", batch)
        done = load_completion_index(
            place.path, samples, {key: number for number, key in enumerate(keys)}, tuple(retry)
        )

    inside = [row for row in rows if row["ordinal"] < samples and row["judge"] != "gone"]
    again = [row for row in inside if row["status"] in retry or row["error_type"] in TRANSIENT_ERROR_TYPES]
    kept = [row for row in inside if row not in again]
    expected = RowCounts()
    for row in kept:
        expected.add(row)
    assert done.counts == expected
    assert done.missing() == samples * len(keys) - len(kept)
    assert done.owners == {row["custom_id"]: 0 for row in again}
    assert all((done.old_usage(row["custom_id"]) or {})["cost"] == row["cost"] for row in again)
    for row in kept:
        assert done.is_done_or_submitted(row["ordinal"], keys.index((row["judge"], row["swapped"], row["repeat"])))
    full = {n for n in range(samples) if sum(row["ordinal"] == n for row in kept) == len(keys)}
    assert done.next_wanted(0) == min({*range(samples)} - full, default=sys.maxsize)


def test_the_next_wanted_sample_is_found_from_any_place() -> None:
    done = CompletionIndex(5, {("j", False, 0): 0, ("j", True, 0): 1})
    done.mark_stored([0, 1, 2, 4], 0)
    done.mark_stored([0, 2, 4], 1)
    assert [done.next_wanted(n) for n in range(6)] == [1, 1, 3, 3, sys.maxsize, sys.maxsize]


def test_rows_that_an_open_batch_replaces_are_asked_again_until_theirs_is_there(place: RunDirectory, keep: Any) -> None:
    keep([make(n, status="failed", error_type="bad_request", batch_id=f"b{n}") for n in range(3)])
    names = [f"{n}-j-o-0" for n in range(3)]
    done = load_completion_index(place.path, 3, ONE, replaced={names[0]: "b0", names[1]: "b9"})
    assert (done.owners, done.missing(), done.counts.failed) == ({names[1]: 0}, 1, 2)


def test_parts_that_grew_a_column_are_scanned_too(place: RunDirectory, keep: Any) -> None:
    keep([make(0)])
    path = part_path(place.results, 0)
    table = pq.read_table(path)
    pq.write_table(table.append_column("own", table["score"]), path)
    assert load_completion_index(place.path, 1, ONE).missing() == 0
