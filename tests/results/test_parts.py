"""Parts: complete or absent, and reported if they are damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from result_rows import stored_row

from runner.errors import RunDirectoryError
from runner.results import part_paths, read_part_batches, results_schema, rewrite_part
from runner.results.checksums import checksum_path
from runner.results.parts import PartWriter, open_part, part_path
from runner.results.schema import to_batch

SCHEMA = results_schema(())


def part(folder: Path, rows: int = 5, number: int = 0, schema: pa.Schema = SCHEMA) -> Path:
    writer = PartWriter(part_path(folder, number), schema, "zstd")
    writer.add([stored_row(ordinal) for ordinal in range(rows)])
    writer.finish()
    return writer.final


def test_a_part_gets_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    writer = PartWriter(part_path(tmp_path, 3), SCHEMA, "zstd")
    writer.add([stored_row(0)])
    assert part_paths(tmp_path) == {}
    assert not list(tmp_path.glob("*.parquet"))
    writer.finish()
    assert part_paths(tmp_path) == {3: tmp_path / "part-00003.parquet"}
    assert pq.read_table(writer.final).to_pylist()[0]["finished_at"] == stored_row()["finished_at"]


def test_a_row_group_is_limited_by_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.results.parts.ROW_GROUP_MAX_ROWS", 4)
    monkeypatch.setattr("runner.results.parts.ROW_GROUP_MAX_BYTES", 100_000)
    writer = PartWriter(part_path(tmp_path, 0), SCHEMA, "zstd")
    for rows in ([stored_row(n) for n in range(5)], [stored_row(5, "x" * 100_000)], [stored_row(6)]):
        writer.add(rows)
    writer.finish()
    meta = pq.read_metadata(writer.final)
    assert [meta.row_group(index).num_rows for index in range(meta.num_row_groups)] == [5, 1, 1]
    assert writer.rows == 7


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"not a Parquet file at all", None])
def test_a_damaged_part_is_reported(tmp_path: Path, damage: bytes | None) -> None:
    path = part(tmp_path)
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    with pytest.raises(RunDirectoryError, match=r"part-00000\.parquet: this part cannot be read"):
        open_part(path)


def test_damage_is_reported_although_the_footer_is_intact(tmp_path: Path) -> None:
    path = part(tmp_path, rows=500)
    content = bytearray(path.read_bytes())
    meta = pq.read_metadata(path).row_group(0).column(SCHEMA.get_field_index("custom_id"))
    start = meta.data_page_offset
    content[start : start + meta.total_compressed_size] = bytes(meta.total_compressed_size)
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"part-00000\.parquet.*checksums"):
        open_part(path)
    checksum_path(path).unlink()  # as in a run directory of an earlier version
    open_part(path).close()
    with pytest.raises(RunDirectoryError, match=r"part-00000\.parquet"):
        list(read_part_batches(path))


def test_columns_that_a_part_lacks_are_skipped(tmp_path: Path) -> None:
    (batch,) = read_part_batches(part(tmp_path), ["ordinal", "never_there"])
    assert batch.schema.names == ["ordinal"]


def test_a_failed_rewrite_leaves_the_old_part(tmp_path: Path) -> None:
    path = part(tmp_path)
    before = path.read_bytes()

    def fail(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        raise KeyError("change")

    with pytest.raises(KeyError):
        rewrite_part(path, SCHEMA, "zstd", fail)
    assert path.read_bytes() == before
    rewrite_part(path, SCHEMA, "zstd", lambda rows: [{**row, "score": 1.5} for row in rows])
    assert pq.read_table(path)["score"].to_pylist() == [1.5] * 5
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checksums", "part-00000.parquet"]


def test_abandoning_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    writer = PartWriter(part_path(tmp_path, 0), SCHEMA, "zstd")
    monkeypatch.setattr(os, "unlink", read_only)
    writer.abandon()
    assert part_paths(tmp_path) == {}


def test_only_columns_with_repeated_values_get_a_dictionary(tmp_path: Path) -> None:
    nested = pa.field("own", pa.struct([("tags", pa.list_(pa.string())), ("n", pa.int64())]))
    path = part(tmp_path, schema=results_schema([nested]))
    group = pq.read_metadata(path).row_group(0)
    by_path = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    plain = {name for name, column in by_path.items() if "RLE_DICTIONARY" not in column.encodings}
    assert {"custom_id", "response", "ordinal"} <= plain
    assert not {"judge", "status", "own.tags.list.element", "dimensions.list.element.name"} & plain
    assert [name for name, column in by_path.items() if column.statistics is not None] == ["ordinal"]


@pytest.mark.parametrize(
    ("models", "emulated"), [(["m", None], False), (["emulated:m", "m"], True), (["m", "emulated:m"], True)]
)
def test_the_metadata_says_if_any_row_is_an_emulators(tmp_path: Path, models: list[str | None], emulated: bool) -> None:
    writer = PartWriter(part_path(tmp_path, 0), SCHEMA, "zstd")
    for number, model in enumerate(models):
        writer.write(pa.Table.from_batches([to_batch([stored_row(number, served_model=model)], SCHEMA)]))
    writer.finish()
    assert pq.read_metadata(writer.final).metadata.get(b"judge_runner.emulated") == (b"true" if emulated else None)
