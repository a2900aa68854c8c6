"""The completion index: which requests of a run directory have a row, and which ones are sent again."""

from __future__ import annotations

import sys
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import stored_row

from runner.results import (
    TRANSIENT_ERROR_TYPES,
    CompletionIndex,
    RowCounts,
    RunDirectory,
    completion,
    load_completion_index,
    results_schema,
    row_counts,
)
from runner.results.checksums import checksum_path
from runner.results.parts import PartWriter, part_path

SCHEMA = results_schema(())
ONE_VARIANT = {("j", False, 0): 0}

stored_rows = st.lists(
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
    stored=stored_rows,
    samples=st.integers(1, 12),
    retry=st.sets(st.sampled_from(["failed", "unparsed"])),
    batch=st.sampled_from([1, 3, completion.ROWS_PER_READ]),
)
def test_the_missing_requests_are_the_dataset_minus_the_rows(
    tmp_path_factory: Any, stored: list[Any], samples: int, retry: set[str], batch: int
) -> None:
    run_directory = RunDirectory(tmp_path_factory.mktemp("run"))
    run_directory.prepare()
    rows = []
    for ordinal, judge, swapped, repeat, (status, error) in stored:
        name = f"{ordinal}-{judge}-{'s' if swapped else 'o'}-{repeat}"
        own = {"judge": judge, "swapped": swapped, "repeat": repeat, "status": status, "error_type": error}
        own |= {"served_model": (None, "m", "n")[ordinal % 3], "cached_tokens": ordinal or None}
        rows.append(stored_row(ordinal, custom_id=name, cost=ordinal / 4, **own))
    if rows:
        writer = PartWriter(part_path(run_directory.results, 0), SCHEMA, "zstd")
        writer.add(rows)
        writer.finish()
    keys = [(judge, swapped, repeat) for judge in ("j", "k") for swapped in (False, True) for repeat in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "ROWS_PER_READ", batch)
        done = load_completion_index(
            run_directory.path, samples, {key: number for number, key in enumerate(keys)}, tuple(retry)
        )

    inside = [row for row in rows if row["ordinal"] < samples and row["judge"] != "gone"]
    retried = [row for row in inside if row["status"] in retry or row["error_type"] in TRANSIENT_ERROR_TYPES]
    kept = [row for row in inside if row not in retried]
    expected = RowCounts()
    for row in kept:
        expected.add(row)
    assert done.counts == expected
    assert done.missing() == samples * len(keys) - len(kept)
    assert done.owners == {row["custom_id"]: 0 for row in retried}
    for row in retried:
        assert done.replaces_row(row["custom_id"])
        assert done.replaces_answer(row["custom_id"]) == (row["status"] == "unparsed")
        assert (done.old_usage(row["custom_id"]) or {})["cost"] == row["cost"]
    for row in kept:
        assert not done.replaces_row(row["custom_id"])
        assert done.is_done_or_submitted(row["ordinal"], keys.index((row["judge"], row["swapped"], row["repeat"])))
    full = {n for n in range(samples) if sum(row["ordinal"] == n for row in kept) == len(keys)}
    assert done.next_wanted(0) == min({*range(samples)} - full, default=sys.maxsize)


def test_the_next_wanted_sample_is_found_from_every_ordinal() -> None:
    done = CompletionIndex(5, {("j", False, 0): 0, ("j", True, 0): 1})
    done.mark_stored([0, 1, 2, 4], 0)
    done.mark_stored([0, 2, 4], 1)
    assert [done.next_wanted(n) for n in range(6)] == [1, 1, 3, 3, sys.maxsize, sys.maxsize]


def test_a_row_that_an_open_batch_replaces_is_missing_until_the_new_row_is_stored(
    run_directory: RunDirectory, write_rows: Any
) -> None:
    write_rows([stored_row(n, status="failed", error_type="bad_request", batch_id=f"b{n}") for n in range(3)])
    names = [f"{n}-j-o-0" for n in range(3)]
    done = load_completion_index(run_directory.path, 3, ONE_VARIANT, replaced={names[0]: "b0", names[1]: "b9"})
    assert (done.owners, done.missing(), done.counts.failed) == ({names[1]: 0}, 1, 2)


def test_parts_with_an_additional_column_are_read(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(0)])
    path = part_path(run_directory.results, 0)
    table = pq.read_table(path)
    pq.write_table(table.append_column("own", table["score"]), path)
    checksum_path(path).unlink()
    assert load_completion_index(run_directory.path, 1, ONE_VARIANT).missing() == 0


def test_the_rows_of_each_model_are_counted_and_a_replaced_row_no_longer() -> None:
    counts = RowCounts()
    for number in range(row_counts.MAX_SERVED_NAMES + 5):
        counts.add(stored_row(number, served_model=f"m{number}"))
    assert len(counts.served["j"]) == row_counts.MAX_SERVED_NAMES + 1
    assert counts.served["j"][row_counts.OTHER_MODELS] == 5
    counts = RowCounts()
    for sign in (1, -1):
        counts.add(stored_row(served_model="m", cached_tokens=3), sign)
        counts.add(stored_row(served_model=None), sign)
    assert counts == RowCounts()


def test_an_answer_that_is_kept_is_counted_as_it_was(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(status="unparsed", error_type="conflict", served_model="m", cached_tokens=3)])
    done = load_completion_index(run_directory.path, 1, ONE_VARIANT, ("unparsed",))
    assert done.counts == RowCounts()
    done.keep_old(stored_row(status="failed", served_model=None), 0)
    assert (done.counts.unparsed, done.counts.served, done.counts.cached_tokens) == (1, {"j": {"m": 1}}, 3)
