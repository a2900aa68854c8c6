"""Surveys count and fingerprint; growth is told from change."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import DatasetConfig
from runner.dataset import DatasetFingerprint, discover, growth, readers, take_fingerprint
from runner.dataset import fingerprint as fingerprint_module
from runner.errors import DatasetError

Write = Callable[[str, bytes | str], Path]


def look(path: Path, previous: DatasetFingerprint | None = None) -> DatasetFingerprint:
    return take_fingerprint(discover(DatasetConfig(path=str(path))), previous)


def touched(path: Path, data: bytes) -> None:
    """Rewrite a file so that its time tells, however coarse the clock is."""
    before = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(before, before + 1_000_000))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_survey_tells_rows_bytes_and_digest(write: Write, name: str) -> None:
    path = write(name, "{}\n\n{}\r\n  \n{}")
    (seen,) = look(path).files
    assert (seen.path, seen.rows, seen.size) == (name, 3, path.stat().st_size)
    assert seen.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_parquet_survey_reads_the_footer_and_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(10)}), path, row_group_size=3)
    (seen,) = look(path).files
    assert (seen.rows, seen.digest) == (10, hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_survey_survives_json(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 1)
    seen = look(write("a.jsonl", "{}\n\n{}\n").parent)
    data = json.loads(json.dumps(seen.to_data()))
    assert (data["rows"], data["files"][0]["marks"]) == (2, [[2, 3, 7]])
    assert DatasetFingerprint.from_data(data) == seen
    del data["files"][0]["marks"]
    assert DatasetFingerprint.from_data(data).files[0].marks == ()


def test_packed_files_have_no_marks(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 1)
    assert look(write("a.jsonl.gz", "{}\n{}\n")).files[0].marks == ()


def test_an_untouched_file_is_not_read_again(write: Write) -> None:
    path = write("a.jsonl", '{"a": 1}\n')
    seen = look(path)
    stat = path.stat()
    path.write_bytes(b'{"a": 2}\n')
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert look(path, seen) == seen
    assert growth(seen, look(path, seen)) == "same"


def test_a_dataset_without_rows_is_refused(write: Write) -> None:
    with pytest.raises(DatasetError, match="there are no rows"):
        look(write("a.jsonl", "\n"))


ROW = st.sampled_from([b"{}", b'{"a": 1}', b"", b"x", b"  "])
TEXT = st.lists(ROW, max_size=5).map(b"\n".join)


@given(first=TEXT, more=TEXT, glue=st.sampled_from([b"", b"\n", b"\r\n"]))
def test_appending_whole_lines_is_growth_and_all_else_is_change(first: bytes, more: bytes, glue: bytes) -> None:
    old_text, new_text = b"{}\n" + first, b"{}\n" + first + glue + more
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(old_text)
        old = look(path)
        touched(path, new_text)
        new = look(path, old)
        assert new.files[0].digest == hashlib.sha256(new_text).hexdigest()
        if new_text == old_text:
            assert growth(old, new) == "same"
        elif old_text.endswith(b"\n") or new_text[len(old_text) :].startswith((b"\n", b"\r\n")):
            assert growth(old, new) == "grown"
        else:
            assert growth(old, new) == "changed"


@given(data=st.data(), content=st.binary(min_size=1, max_size=40))
def test_changing_a_byte_is_change_whatever_is_appended(data: st.DataObject, content: bytes) -> None:
    old_text = b'{"a": 1}\n' + content
    at = data.draw(st.integers(0, len(old_text) - 1))
    changed = bytearray(old_text)
    changed[at] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(old_text)
        old = look(path)
        touched(path, bytes(changed) + data.draw(st.sampled_from([b"", b"\n{}\n"])))
        Path(folder, "b.jsonl").write_bytes(b"{}\n")
        assert growth(old, take_fingerprint(discover(DatasetConfig(path=folder)), old)) == "changed"


def test_a_touched_file_with_the_same_bytes_is_the_same(write: Write) -> None:
    path = write("a.jsonl.gz", "{}\n")
    old = look(path)
    touched(path, path.read_bytes())
    assert growth(old, look(path, old)) == "same"


def test_the_same_bytes_are_not_counted_again(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 1)
    path = write("a.jsonl", "{}\n{}\n")
    old = look(path)
    touched(path, path.read_bytes())
    with monkeypatch.context() as patch:
        patch.delattr(fingerprint_module, "count_lines")
        new = look(path, old)
    assert (new.files[0].marks, new.files[0].has(discover(DatasetConfig(path=str(path)))[0].stamp())) == (
        old.files[0].marks,
        True,
    )
    touched(path, b"{ }{}\n")
    assert look(path, new).rows == 1


@pytest.mark.parametrize(
    ("name", "verdict"), [("c.jsonl", "grown"), ("ab.jsonl", "changed"), ("0.jsonl", "changed"), ("b/c.jsonl", "grown")]
)
def test_new_files_grow_a_dataset_only_at_its_end(write: Write, tmp_path: Path, name: str, verdict: str) -> None:
    write("a.jsonl", '{"a": 1}\n')
    write("b.jsonl", '{"a": 2}\n')
    old = look(tmp_path)
    write(name, '{"a": 3}\n')
    assert growth(old, look(tmp_path, old)) == ("changed" if name < "b.jsonl" else verdict)


def test_only_the_last_file_may_grow_and_none_may_go(write: Write, tmp_path: Path) -> None:
    first, last = write("a.jsonl", '{"a": 1}\n'), write("b.jsonl", '{"a": 2}\n')
    old = look(tmp_path)
    touched(last, last.read_bytes() + b"{}\n")
    write("c.jsonl", "{}\n")
    assert growth(old, look(tmp_path, old)) == "grown"
    touched(first, first.read_bytes() + b"{}\n")
    assert growth(old, look(tmp_path, old)) == "changed"
    first.unlink()
    (tmp_path / "c.jsonl").unlink()
    assert growth(old, look(tmp_path, old)) == "changed"


@pytest.mark.parametrize(
    ("old_text", "more", "verdict"),
    [
        ("id,a\n1,x\n", "2,y\n", "grown"),
        ("id,a\n1,x", "\n2,y", "grown"),
        ("id,a\n1,x", "2,y\n", "changed"),
        ('id,a\n1,"x\n', '2,y"\n', "changed"),
    ],
)
def test_csv_grows_by_whole_records(write: Write, old_text: str, more: str, verdict: str) -> None:
    path = write("a.csv", old_text)
    old = look(path)
    touched(path, (old_text + more).encode())
    assert growth(old, look(path, old)) == verdict


def test_an_appended_packed_file_is_changed(write: Write) -> None:
    path = write("a.jsonl.gz", "{}\n")
    old = look(path)
    touched(path, path.read_bytes() * 2)
    new = look(path, old)
    assert (new.rows, growth(old, new)) == (2, "changed")


def test_another_format_counts_anew(write: Write) -> None:
    path = write("a.json", '[{"a": 1},\n{"a": 2}]')
    old = look(path)
    new = take_fingerprint(discover(DatasetConfig(path=str(path), format="csv")), old)
    assert growth(old, new) == "changed"
