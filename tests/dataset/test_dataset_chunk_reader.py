"""All formats give the same rows, in full or selectively, and name the files that cannot be read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runner.config import DatasetConfig
from runner.dataset import (
    NEVER,
    DataFile,
    DatasetFingerprint,
    NextWanted,
    RawRow,
    chunks,
    discover,
    everything,
    pending,
    readers,
    take_fingerprint,
)
from runner.dataset.content import find_wrong_content
from runner.errors import DatasetError
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., list[Sample]]

ROWS = [{"id": f"r{n}", "question": '你好, "x"\nline', "answer": "a" * n} for n in range(7)]
FILE_COUNT = 3


def as_csv(rows: list[dict[str, str]], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


TEXTS = {
    "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS),
    "json": json.dumps(ROWS, indent=1),
    "csv": as_csv(ROWS),
    "tsv": as_csv(ROWS, "\t"),
}


def rows_of(files: Sequence[DataFile], wanted: NextWanted = everything, chunk_rows: int = 256) -> list[RawRow]:
    return [row for chunk in chunks(files, wanted, chunk_rows=chunk_rows) for row in chunk]


def wanting(ordinals: set[int]) -> NextWanted:
    return lambda ordinal: min((item for item in ordinals if item >= ordinal), default=NEVER)


def files_at(path: Path | str, format_: str = "auto") -> tuple[DataFile, ...]:
    return discover(DatasetConfig.model_validate({"path": str(path), "format": format_}))


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("format_", sorted(TEXTS))
def test_text_formats_give_the_same_rows(write: Write, read: Read, format_: str, bom: str, compression: str) -> None:
    path = write(f"data.{format_}{compression}", bom + TEXTS[format_])
    samples = read(path)
    assert [dict(sample.record) for sample in samples] == ROWS
    assert [(sample.ordinal, sample.id, sample.problem) for sample in samples] == [(n, f"r{n}", None) for n in range(7)]
    assert take_fingerprint(files_at(path)).rows == len(ROWS)


def test_parquet_reads_only_the_needed_columns_and_rows(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "unused": 1} for row in ROWS]), path, row_group_size=2)
    assert [dict(sample.record) for sample in read(path)] == ROWS
    picked = rows_of(files_at(path), wanting({1, 4, 5}))
    assert [(row.ordinal, row.number, row.payload["id"]) for row in picked] == [
        (1, 2, "r1"),
        (4, 5, "r4"),
        (5, 6, "r5"),
    ]


def test_parquet_values_become_python_values(tmp_path: Path, read: Read) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2]),
            "meta": pa.array([{"tags": ["a"]}, None]),
            "at": pa.array([1_500_000_001, 0], pa.timestamp("ns")),
            "group": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet", keep=["at", "group"], fields={"tags": "meta.tags"})
    assert first.id == "1"
    assert first.fields["tags"] == ["a"]
    assert "tags" not in second.fields
    assert first.columns["at"] == 1_500_000_001
    assert first.columns["group"] == "x"


def test_a_parquet_string_that_is_not_utf8_makes_only_its_row_bad(tmp_path: Path, read: Read) -> None:
    raw = pa.array([b"good", b"\xff", b"also"])
    pq.write_table(pa.table({"id": pa.Array.from_buffers(pa.string(), 3, raw.buffers())}), tmp_path / "a.parquet")
    first, bad, last = read(tmp_path)
    assert (first.id, bad.id, bad.place, last.id) == ("good", "1", "a.parquet:2", "also")
    assert bad.problem is not None
    assert "a text that is not UTF-8" in bad.problem


@pytest.mark.parametrize("format_", [*sorted(TEXTS), "parquet"])
@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
def test_ordinals_continue_across_files_whichever_rows_are_wanted(
    write: Write, tmp_path: Path, format_: str, chunk_rows: int
) -> None:
    for number in range(FILE_COUNT):
        if format_ == "parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / f"{number}.parquet", row_group_size=3)
        else:
            write(f"{number}.{format_}", TEXTS[format_])
    files = files_at(tmp_path)
    all_rows = rows_of(files, chunk_rows=chunk_rows)
    assert [row.ordinal for row in all_rows] == list(range(FILE_COUNT * len(ROWS)))
    fingerprint = take_fingerprint(files)
    for wanted in ({0}, {6, 7}, {8, 20}, set(range(5, 16)), {20}, set()):
        expected = [row for row in all_rows if row.ordinal in wanted]
        assert rows_of(files, wanting(wanted)) == expected
        read_with_fingerprint = [row for chunk in chunks(files, wanting(wanted), known=fingerprint) for row in chunk]
        assert read_with_fingerprint == expected


def test_chunks_are_limited_by_rows_and_bytes(write: Write) -> None:
    files = files_at(write("a.jsonl", b'{"a": "%s"}\n' % (b"x" * 90) * 10))
    assert [len(chunk) for chunk in chunks(files, chunk_rows=4)] == [4, 4, 2]
    assert [len(chunk) for chunk in chunks(files, chunk_bytes=150)] == [2, 2, 2, 2, 2]


LINE = st.one_of(
    st.sampled_from([b"", b" ", b"\t \r", b"\x0b", b"{}", b" {}", b"x", b'{"a": 1}']), st.binary(max_size=30)
)


def file_content(lines: list[bytes], line_end: bytes, tail: bytes, bom: bytes) -> bytes:
    return bom + line_end.join(line.replace(b"\n", b"") for line in lines) + tail


def reference_rows(data: bytes) -> list[tuple[int, int, bytes]]:
    rows: list[tuple[int, int, bytes]] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip(b" \t\r\n\x0b\x0c"):
            rows.append((len(rows), number, line.rstrip(b"\r")))
    return rows


@given(
    lines=st.lists(LINE, max_size=25),
    line_end=st.sampled_from([b"\n", b"\r\n"]),
    tail=st.sampled_from([b"", b"\n", b"\n\n", b"\r\n "]),
    bom=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    wanted=st.sets(st.integers(0, 30)),
    block=st.sampled_from([1, 16, 1 << 18]),
    spacing=st.sampled_from([1, 30, readers.SEEK_POINT_SPACING_BYTES]),
)
def test_lines_are_numbered_as_by_a_simple_reference_reader(
    lines: list[bytes], line_end: bytes, tail: bytes, bom: bytes, wanted: set[int], block: int, spacing: int
) -> None:
    data = file_content(lines, line_end, tail, bom)
    assume(find_wrong_content(data, "jsonl") is None)  # a file that begins like a gzip file is refused as a whole
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BUFFER_BYTES", block)
        patch.setattr(readers, "SEEK_POINT_SPACING_BYTES", spacing)
        path = Path(folder, "a.jsonl")
        path.write_bytes(data)
        files = files_at(path)
        expected = reference_rows(data)

        def summary(rows: list[RawRow]) -> list[tuple[int, int, bytes]]:
            return [(row.ordinal, row.number, row.payload.rstrip(b"\r\n")) for row in rows]

        stripped = [(ordinal, number, line.rstrip(b"\r\n")) for ordinal, number, line in expected]
        assert summary(rows_of(files)) == stripped
        assert summary(rows_of(files, wanting(wanted))) == [row for row in stripped if row[0] in wanted]
        if expected:
            fingerprint = take_fingerprint(files)
            assert fingerprint.rows == len(expected)
            picked = [row for chunk in chunks(files, wanting(wanted), known=fingerprint) for row in chunk]
            assert summary(picked) == [row for row in stripped if row[0] in wanted]


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    table=st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1))
)
def test_csv_rows_equal_those_the_csv_module_wrote(table: list[list[str]]) -> None:
    header = [f"c{index}" for index in range(len(table[0]))]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *table])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(text.getvalue().encode())
        rows = rows_of(files_at(path))
        assert [list(row.payload.values()) for row in rows] == table
        assert take_fingerprint(files_at(path)).rows == len(table)


def test_the_place_of_a_csv_row_is_its_first_line(write: Write, read: Read) -> None:
    samples = read(write("a.csv", 'id,answer\n1,"x\ny"\n\n2,z\n3\n4,a,b\n'))
    assert [(sample.place, sample.problem) for sample in samples] == [
        ("a.csv:2", None),
        ("a.csv:5", None),
        ("a.csv:6", "1 cells where the header has 2"),
        ("a.csv:7", "3 cells where the header has 2"),
    ]


def test_csv_accepts_nul_and_large_cells_and_flags_invalid_utf8(write: Write, read: Read) -> None:
    big = b"x" * 300_000
    samples = read(write("a.csv", b"id,answer\n1,a\x00b\n2," + big + b"\n3,\xff\n4,ok\n"))
    assert samples[0].fields["answer"] == "a\x00b"
    assert len(samples[1].fields["answer"]) == len(big)
    assert [(sample.problem or "")[:10] for sample in samples[2:]] == ["not UTF-8;", ""]


def test_a_csv_header_with_a_repeated_name_is_rejected(write: Write, read: Read) -> None:
    with pytest.raises(DatasetError, match="more than once"):
        read(write("a.csv", "id,id\n1,2\n"))


def test_pending_respects_flags_and_limit() -> None:
    done = bytearray(b"\1\1\0\1")
    wanted = pending(done)
    assert [wanted(ordinal) for ordinal in range(6)] == [2, 2, 2, 4, 4, 5]
    assert [pending(done, 4)(ordinal) for ordinal in (0, 3, 9)] == [2, NEVER, NEVER]
    done[2] = 1
    assert wanted(0) == len(done)


def test_a_file_that_grew_is_read_up_to_its_counted_rows(write: Write) -> None:
    first = write("a.jsonl", '{"n": 1}\n')
    write("b.jsonl", '{"n": 2}\n')
    files = files_at(first.parent)
    fingerprint = take_fingerprint(files)
    first.write_text('{"n": 1}\n{"n": 9}\n')
    rows = [row for chunk in chunks(files, known=fingerprint) for row in chunk]
    assert [(row.ordinal, row.file) for row in rows] == [(0, "a.jsonl"), (1, "b.jsonl")]


def test_a_file_that_shrank_raises_an_error(write: Write) -> None:
    path = write("a.jsonl", '{"n": 1}\n{"n": 2}\n')
    files = files_at(path)
    fingerprint = take_fingerprint(files)
    path.write_text('{"n": 1}\n')
    with pytest.raises(DatasetError, match="has 1 rows, but had 2"):
        rows = [row for chunk in chunks(files, known=fingerprint) for row in chunk]
        assert rows


@pytest.fixture
def seekable_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, DatasetFingerprint]:
    """A file of 60 lines with a seek point about every five lines, and its fingerprint."""
    monkeypatch.setattr(readers, "BUFFER_BYTES", 16)
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 50)
    path = write("a.jsonl", "".join(f'{{"n": {n}}}\n' for n in range(60)))
    fingerprint = take_fingerprint(files_at(path))
    assert len(fingerprint.files[0].marks) > 3
    return path, fingerprint


def test_unwanted_stretches_are_not_read(seekable_file: tuple[Path, DatasetFingerprint]) -> None:
    path, fingerprint = seekable_file
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:100] + b"x" * (len(content) - 200) + content[-100:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    rows = [row for chunk in chunks(files_at(path), wanting({1, 58}), known=fingerprint) for row in chunk]
    assert [(row.ordinal, row.number, row.payload) for row in rows] == [(1, 2, b'{"n": 1}\n'), (58, 59, b'{"n": 58}\n')]


def test_seek_points_of_a_changed_file_are_ignored(seekable_file: tuple[Path, DatasetFingerprint]) -> None:
    path, fingerprint = seekable_file
    path.write_text("".join(f'{{"number": {n}}}\n' for n in range(60)))
    rows = [row for chunk in chunks(files_at(path), wanting({58}), known=fingerprint) for row in chunk]
    assert [(row.ordinal, row.payload) for row in rows] == [(58, b'{"number": 58}\n')]


def test_concatenated_gzip_members_are_read_completely(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}\n") + gzip.compress(b"{}\n{}"))
    assert len(rows_of(files_at(tmp_path))) == 3


def test_the_error_for_a_damaged_file_names_it(tmp_path: Path) -> None:
    truncated = tmp_path / "a.jsonl.gz"
    truncated.write_bytes(gzip.compress(TEXTS["jsonl"].encode())[:-20])
    invalid = tmp_path / "b.parquet"
    invalid.write_bytes(b"PAR1 not really")
    missing = DataFile(tmp_path / "c.jsonl", "c.jsonl", "jsonl")
    for files in (files_at(truncated), files_at(invalid), (missing,)):
        with pytest.raises(DatasetError, match=files[0].path.name):
            rows_of(files)
        with pytest.raises(DatasetError, match=files[0].path.name):
            take_fingerprint(files)


@pytest.mark.parametrize("text", ['{"a": 1}\n{"a": 2}', "[1, ", '"x"', ""])
def test_a_json_file_without_an_array_is_rejected(write: Write, read: Read, text: str) -> None:
    with pytest.raises(DatasetError, match=r"a\.json.*expected one JSON array"):
        read(write("a.json", text))
