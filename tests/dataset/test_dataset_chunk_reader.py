"""Every format gives the same rows, whole or in part, and says what it cannot read."""

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
from hypothesis import given
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
from runner.errors import DatasetError
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., list[Sample]]

ROWS = [{"id": f"r{n}", "question": '你好, "x"\nline', "answer": "a" * n} for n in range(7)]
SEVERAL = 3


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


def only(ordinals: set[int]) -> NextWanted:
    return lambda ordinal: min((one for one in ordinals if one >= ordinal), default=NEVER)


def files_at(path: Path | str, format_: str = "auto") -> tuple[DataFile, ...]:
    return discover(DatasetConfig.model_validate({"path": str(path), "format": format_}))


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("format_", sorted(TEXTS))
def test_text_formats_give_the_same_rows(write: Write, read: Read, format_: str, mark: str, packing: str) -> None:
    path = write(f"data.{format_}{packing}", mark + TEXTS[format_])
    samples = read(path)
    assert [dict(sample.record) for sample in samples] == ROWS
    assert [(sample.ordinal, sample.id, sample.problem) for sample in samples] == [(n, f"r{n}", None) for n in range(7)]
    assert take_fingerprint(files_at(path)).rows == len(ROWS)


def test_parquet_reads_only_the_needed_columns_and_any_row_group(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "unused": 1} for row in ROWS]), path, row_group_size=2)
    assert [dict(sample.record) for sample in read(path)] == ROWS
    picked = rows_of(files_at(path), only({1, 4, 5}))
    assert [(row.ordinal, row.number, row.payload["id"]) for row in picked] == [
        (1, 2, "r1"),
        (4, 5, "r4"),
        (5, 6, "r5"),
    ]


def test_parquet_values_become_plain_python(tmp_path: Path, read: Read) -> None:
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
    assert first.columns["at"].microsecond == 500_000
    assert first.columns["group"] == "x"


def test_a_parquet_text_that_is_not_utf8_spoils_one_row(tmp_path: Path, read: Read) -> None:
    raw = pa.array([b"good", b"\xff", b"also"])
    pq.write_table(pa.table({"id": pa.Array.from_buffers(pa.string(), 3, raw.buffers())}), tmp_path / "a.parquet")
    first, bad, last = read(tmp_path)
    assert (first.id, bad.id, bad.place, last.id) == ("good", "1", "a.parquet:2", "also")
    assert bad.problem is not None
    assert "cannot be read" in bad.problem


@pytest.mark.parametrize("format_", [*sorted(TEXTS), "parquet"])
@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
def test_ordinals_run_on_over_files_and_do_not_depend_on_what_is_wanted(
    write: Write, tmp_path: Path, format_: str, chunk_rows: int
) -> None:
    for number in range(SEVERAL):
        if format_ == "parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / f"{number}.parquet", row_group_size=3)
        else:
            write(f"{number}.{format_}", TEXTS[format_])
    files = files_at(tmp_path)
    whole = rows_of(files, chunk_rows=chunk_rows)
    assert [row.ordinal for row in whole] == list(range(SEVERAL * len(ROWS)))
    surveyed = take_fingerprint(files)
    for wanted in ({0}, {6, 7}, {8, 20}, set(range(5, 16)), {20}, set()):
        expected = [row for row in whole if row.ordinal in wanted]
        assert rows_of(files, only(wanted)) == expected
        known = [row for chunk in chunks(files, only(wanted), known=surveyed) for row in chunk]
        assert known == expected


def test_chunks_keep_to_rows_and_bytes(write: Write) -> None:
    files = files_at(write("a.jsonl", b'{"a": "%s"}\n' % (b"x" * 90) * 10))
    assert [len(chunk) for chunk in chunks(files, chunk_rows=4)] == [4, 4, 2]
    assert [len(chunk) for chunk in chunks(files, chunk_bytes=150)] == [2, 2, 2, 2, 2]


LINE = st.one_of(
    st.sampled_from([b"", b" ", b"\t \r", b"\x0b", b"{}", b" {}", b"x", b'{"a": 1}']), st.binary(max_size=30)
)


def text_of(lines: list[bytes], ending: bytes, last: bytes, mark: bytes) -> bytes:
    return mark + ending.join(line.replace(b"\n", b"") for line in lines) + last


def naive(data: bytes) -> list[tuple[int, int, bytes]]:
    rows: list[tuple[int, int, bytes]] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip(b" \t\r\n\x0b\x0c"):
            rows.append((len(rows), number, line.rstrip(b"\r")))
    return rows


@given(
    lines=st.lists(LINE, max_size=25),
    ending=st.sampled_from([b"\n", b"\r\n"]),
    last=st.sampled_from([b"", b"\n", b"\n\n", b"\r\n "]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    wanted=st.sets(st.integers(0, 30)),
    block=st.sampled_from([1, 16, 1 << 18]),
    spacing=st.sampled_from([1, 30, readers.SEEK_POINT_SPACING_BYTES]),
)
def test_lines_are_numbered_as_a_naive_reader_does(
    lines: list[bytes], ending: bytes, last: bytes, mark: bytes, wanted: set[int], block: int, spacing: int
) -> None:
    data = text_of(lines, ending, last, mark)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BUFFER_BYTES", block)
        patch.setattr(readers, "SEEK_POINT_SPACING_BYTES", spacing)
        path = Path(folder, "a.jsonl")
        path.write_bytes(data)
        files = files_at(path)
        expected = naive(data)

        def seen(rows: list[RawRow]) -> list[tuple[int, int, bytes]]:
            return [(row.ordinal, row.number, row.payload.rstrip(b"\r\n")) for row in rows]

        stripped = [(ordinal, number, line.rstrip(b"\r\n")) for ordinal, number, line in expected]
        assert seen(rows_of(files)) == stripped
        assert seen(rows_of(files, only(wanted))) == [row for row in stripped if row[0] in wanted]
        if expected:
            known = take_fingerprint(files)
            assert known.rows == len(expected)
            picked = [row for chunk in chunks(files, only(wanted), known=known) for row in chunk]
            assert seen(picked) == [row for row in stripped if row[0] in wanted]


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    table=st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1))
)
def test_csv_gives_back_what_the_csv_module_wrote(table: list[list[str]]) -> None:
    header = [f"c{index}" for index in range(len(table[0]))]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *table])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(text.getvalue().encode())
        rows = rows_of(files_at(path))
        assert [list(row.payload.values()) for row in rows] == table
        assert take_fingerprint(files_at(path)).rows == len(table)


def test_a_csv_row_is_placed_on_its_first_line(write: Write, read: Read) -> None:
    samples = read(write("a.csv", 'id,answer\n1,"x\ny"\n\n2,z\n3\n4,a,b\n'))
    assert [(sample.place, sample.problem) for sample in samples] == [
        ("a.csv:2", None),
        ("a.csv:5", None),
        ("a.csv:6", "1 cells where the header has 2"),
        ("a.csv:7", "3 cells where the header has 2"),
    ]


def test_csv_takes_nul_large_cells_and_bytes_that_are_not_utf8(write: Write, read: Read) -> None:
    big = b"x" * 300_000
    samples = read(write("a.csv", b"id,answer\n1,a\x00b\n2," + big + b"\n3,\xff\n4,ok\n"))
    assert samples[0].fields["answer"] == "a\x00b"
    assert len(samples[1].fields["answer"]) == len(big)
    assert [sample.problem for sample in samples[2:]] == ["not UTF-8", None]


def test_a_csv_header_that_repeats_a_name_is_refused(write: Write, read: Read) -> None:
    with pytest.raises(DatasetError, match="more than once"):
        read(write("a.csv", "id,id\n1,2\n"))


def test_pending_follows_flags_and_limit() -> None:
    done = bytearray(b"\1\1\0\1")
    wanted = pending(done)
    assert [wanted(ordinal) for ordinal in range(6)] == [2, 2, 2, 4, 4, 5]
    assert [pending(done, 4)(ordinal) for ordinal in (0, 3, 9)] == [2, NEVER, NEVER]
    done[2] = 1
    assert wanted(0) == len(done)


def test_a_file_that_grew_is_read_as_far_as_it_was_counted(write: Write) -> None:
    first = write("a.jsonl", '{"n": 1}\n')
    write("b.jsonl", '{"n": 2}\n')
    files = files_at(first.parent)
    known = take_fingerprint(files)
    first.write_text('{"n": 1}\n{"n": 9}\n')
    rows = [row for chunk in chunks(files, known=known) for row in chunk]
    assert [(row.ordinal, row.file) for row in rows] == [(0, "a.jsonl"), (1, "b.jsonl")]


def test_a_file_that_shrank_stops_the_run(write: Write) -> None:
    path = write("a.jsonl", '{"n": 1}\n{"n": 2}\n')
    files = files_at(path)
    known = take_fingerprint(files)
    path.write_text('{"n": 1}\n')
    with pytest.raises(DatasetError, match="has 1 rows, but had 2"):
        rows_of_counted = [row for chunk in chunks(files, known=known) for row in chunk]
        assert rows_of_counted


@pytest.fixture
def marked(write: Write, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, DatasetFingerprint]:
    """A file of sixty lines, with a mark about every fifth."""
    monkeypatch.setattr(readers, "BUFFER_BYTES", 16)
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 50)
    path = write("a.jsonl", "".join(f'{{"n": {n}}}\n' for n in range(60)))
    known = take_fingerprint(files_at(path))
    assert len(known.files[0].marks) > SEVERAL
    return path, known


def test_what_nobody_wants_is_not_even_read(marked: tuple[Path, DatasetFingerprint]) -> None:
    path, known = marked
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:100] + b"x" * (len(content) - 200) + content[-100:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    rows = [row for chunk in chunks(files_at(path), only({1, 58}), known=known) for row in chunk]
    assert [(row.ordinal, row.number, row.payload) for row in rows] == [(1, 2, b'{"n": 1}\n'), (58, 59, b'{"n": 58}\n')]


def test_marks_of_a_file_that_changed_are_not_trusted(marked: tuple[Path, DatasetFingerprint]) -> None:
    path, known = marked
    path.write_text("".join(f'{{"number": {n}}}\n' for n in range(60)))
    rows = [row for chunk in chunks(files_at(path), only({58}), known=known) for row in chunk]
    assert [(row.ordinal, row.payload) for row in rows] == [(58, b'{"number": 58}\n')]


def test_packed_files_may_be_glued_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}\n") + gzip.compress(b"{}\n{}"))
    assert len(rows_of(files_at(tmp_path))) == SEVERAL


def test_damaged_files_are_named(tmp_path: Path) -> None:
    cut = tmp_path / "a.jsonl.gz"
    cut.write_bytes(gzip.compress(TEXTS["jsonl"].encode())[:-20])
    fake = tmp_path / "b.parquet"
    fake.write_bytes(b"PAR1 not really")
    gone = DataFile(tmp_path / "c.jsonl", "c.jsonl", "jsonl")
    for files in (files_at(cut), files_at(fake), (gone,)):
        with pytest.raises(DatasetError, match=files[0].path.name):
            rows_of(files)
        with pytest.raises(DatasetError, match=files[0].path.name):
            take_fingerprint(files)


@pytest.mark.parametrize("text", ['{"a": 1}\n{"a": 2}', "[1, ", '"x"', ""])
def test_a_json_file_that_is_no_array_is_refused(write: Write, read: Read, text: str) -> None:
    with pytest.raises(DatasetError, match=r"a\.json.*expected one JSON array"):
        read(write("a.json", text))
