"""Ids of samples that are the ordinal of another sample."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.results import find_shared_ids
from runner.results.shared_ids import SharedIds

IDS = st.one_of(st.integers(0, 12).map(str), st.sampled_from(["01", "1.0", "x", "", "٣", "-1", "9" * 30, "1\n"]))


def find(folder: Path, rows: list[tuple[str, int]], row_group_size: int = 3) -> SharedIds | None:
    ids, ordinals = [id_ for id_, _ in rows], [ordinal for _, ordinal in rows]
    path = folder / "samples.parquet"
    pq.write_table(
        pa.table({"sample_id": pa.array(ids, pa.string()), "ordinal": pa.array(ordinals, pa.int64()), "x": ids}),
        path,
        row_group_size=row_group_size,
    )
    return find_shared_ids(path)


@given(st.lists(st.one_of(st.none(), IDS), max_size=12))
def test_each_id_that_is_an_ordinal_of_another_is_found(ids: list[str | None]) -> None:
    """`None` is a row without an id, for which the ordinal stands."""
    rows = [(str(ordinal) if id_ is None else id_, ordinal) for ordinal, id_ in enumerate(ids)]
    own = {id_ for id_, ordinal in rows if id_ == str(ordinal)}
    shared = own & {id_ for id_, ordinal in rows if id_ != str(ordinal)}
    with TemporaryDirectory() as folder:
        found = find(Path(folder), rows)
    expected = SharedIds(len(shared), min(shared, key=int)) if shared else None
    assert found == expected


@pytest.mark.parametrize("rows", [[], [("0", 0), ("1", 1)], [("1", 0), ("2", 1)], [("5", 0), ("5", 1)]])
def test_ids_that_are_no_stand_ins(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    assert find(tmp_path, rows) is None


def test_ordinals_with_gaps(tmp_path: Path) -> None:
    assert find(tmp_path, [("9", 4), ("x", 7), ("9", 9), ("1000", 11)]) == SharedIds(1, "9")


def test_the_sentence_is_about_one_or_several() -> None:
    assert SharedIds(1, "4").described().startswith("the sample_id 4 belongs to several samples: one has it as its")
    assert SharedIds(1234, "2").described().startswith("1,234 ids belong to several samples, such as 2: one has it as")
