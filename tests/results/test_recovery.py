"""Recovery: leftover segments become parts, temporary files are removed, damaged parts are made again or reported."""

from __future__ import annotations

from typing import Any

import pytest
from result_rows import stored_row

from runner.errors import RunDirectoryError
from runner.results import RunDirectory, recover_results, results_schema
from runner.results.journal import Segment, segment_path
from runner.results.parts import part_path
from runner.types import Row

SCHEMA = results_schema(())


def write_segment(run_directory: RunDirectory, number: int, rows: list[Row]) -> None:
    segment = Segment(segment_path(run_directory.journal, number))
    for row in rows:
        segment.append(row)
    segment.close()


def recover(run_directory: RunDirectory) -> int:
    return recover_results(run_directory.path, SCHEMA, "zstd")


def test_an_empty_directory_starts_with_part_0(run_directory: RunDirectory) -> None:
    assert recover(run_directory) == 0


def test_segments_become_parts_of_their_own_numbers(run_directory: RunDirectory, read_rows: Any) -> None:
    write_segment(run_directory, 3, [stored_row(0), stored_row(1)])
    write_segment(run_directory, 5, [stored_row(2)])
    assert recover(run_directory) == 6
    assert sorted(path.name for path in run_directory.results.iterdir()) == ["part-00003.parquet", "part-00005.parquet"]
    assert [row["ordinal"] for row in read_rows()] == [0, 1, 2]
    assert not list(run_directory.journal.iterdir())


def test_a_segment_without_a_complete_row_is_removed(run_directory: RunDirectory, read_rows: Any) -> None:
    segment_path(run_directory.journal, 0).write_bytes(b'{"custom_id": "0-j')
    recover(run_directory)
    assert read_rows() == []
    assert not list(run_directory.journal.iterdir())


def test_a_segment_whose_part_exists_is_deleted(run_directory: RunDirectory, write_rows: Any, read_rows: Any) -> None:
    write_rows([stored_row(0, "part")])
    write_segment(run_directory, 0, [stored_row(0, "part"), stored_row(1, "was never here")])
    assert recover(run_directory) == 1
    assert [row["response"] for row in read_rows()] == ["part"]


@pytest.mark.parametrize("after_footer", [False, True])
def test_an_unreadable_part_is_made_again_from_its_segment(
    run_directory: RunDirectory, write_rows: Any, read_rows: Any, after_footer: bool
) -> None:
    rows = [stored_row(n) for n in range(400)]
    write_rows(rows)
    path = part_path(run_directory.results, 0)
    content = bytearray(path.read_bytes())
    if after_footer:
        content[4 : len(content) // 3] = bytes(len(content) // 3 - 4)
    else:
        del content[-30:]
    path.write_bytes(content)
    write_segment(run_directory, 0, rows)
    assert recover(run_directory) == 1
    assert [row["ordinal"] for row in read_rows()] == list(range(400))


def test_an_unreadable_part_without_its_segment_is_reported(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(n) for n in range(4)], size=2)
    broken = part_path(run_directory.results, 1)
    broken.write_bytes(b"PAR1 but no more")
    with pytest.raises(RunDirectoryError, match=r"part-00001\.parquet: .*its journal segment is gone"):
        recover(run_directory)
    assert broken.read_bytes() == b"PAR1 but no more"


def test_only_temporary_files_are_removed(run_directory: RunDirectory) -> None:
    for folder in (run_directory.results, run_directory.journal, run_directory.path):
        (folder / ".part-00000.parquet.tmp").write_bytes(b"PAR1")
        (folder / "mine.tmp").write_bytes(b"")
    recover(run_directory)
    assert sorted(path.name for path in run_directory.path.rglob("*.tmp")) == ["mine.tmp"] * 3


def test_a_replacing_row_goes_into_the_part_of_the_old_row(
    run_directory: RunDirectory, write_rows: Any, read_rows: Any
) -> None:
    write_rows([stored_row(0, "old"), stored_row(1, "old")])
    write_segment(run_directory, 1, [stored_row(1, "new"), stored_row(2, "new row")])
    recover(run_directory)
    assert [(row["ordinal"], row["response"]) for row in read_rows()] == [(0, "old"), (1, "new"), (2, "new row")]
