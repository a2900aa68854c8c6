"""A fingerprint holds row counts and hashes; comparing two of them distinguishes growth from change."""

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


def fingerprint_of(path: Path, previous: DatasetFingerprint | None = None) -> DatasetFingerprint:
    return take_fingerprint(discover(DatasetConfig(path=str(path))), previous)


def rewrite(path: Path, data: bytes) -> None:
    """Rewrite a file and advance its modification time, which a coarse clock might leave unchanged."""
    before = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(before, before + 1_000_000))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_fingerprint_holds_rows_bytes_and_digest(write: Write, name: str) -> None:
    path = write(name, "{}\n\n{}\r\n  \n{}")
    (fingerprint,) = fingerprint_of(path).files
    assert (fingerprint.path, fingerprint.rows, fingerprint.size) == (name, 3, path.stat().st_size)
    assert fingerprint.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_parquet_fingerprint_counts_by_the_footer_and_hashes_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(10)}), path, row_group_size=3)
    (fingerprint,) = fingerprint_of(path).files
    assert (fingerprint.rows, fingerprint.digest) == (10, hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_fingerprint_survives_a_json_round_trip(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 1)
    fingerprint = fingerprint_of(write("a.jsonl", "{}\n\n{}\n").parent)
    data = json.loads(json.dumps(fingerprint.to_data()))
    assert (data["rows"], data["files"][0]["marks"]) == (2, [[2, 3, 7]])
    assert DatasetFingerprint.from_data(data) == fingerprint
    del data["files"][0]["marks"]
    assert DatasetFingerprint.from_data(data).files[0].marks == ()


def test_compressed_files_have_no_seek_points(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 1)
    assert fingerprint_of(write("a.jsonl.gz", "{}\n{}\n")).files[0].marks == ()


def test_a_file_with_the_same_size_and_time_is_not_read_again(write: Write) -> None:
    path = write("a.jsonl", '{"a": 1}\n')
    fingerprint = fingerprint_of(path)
    stat = path.stat()
    path.write_bytes(b'{"a": 2}\n')
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprint_of(path, fingerprint) == fingerprint
    assert growth(fingerprint, fingerprint_of(path, fingerprint)) == "same"


def test_a_dataset_without_rows_is_rejected(write: Write) -> None:
    with pytest.raises(DatasetError, match="there are no rows"):
        fingerprint_of(write("a.jsonl", "\n"))


LINE = st.sampled_from([b"{}", b'{"a": 1}', b"", b"x", b"  "])
TEXT = st.lists(LINE, max_size=5).map(b"\n".join)


@given(first=TEXT, appended=TEXT, separator=st.sampled_from([b"", b"\n", b"\r\n"]))
def test_only_appending_whole_lines_is_growth(first: bytes, appended: bytes, separator: bytes) -> None:
    old_text, new_text = b"{}\n" + first, b"{}\n" + first + separator + appended
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(old_text)
        old = fingerprint_of(path)
        rewrite(path, new_text)
        new = fingerprint_of(path, old)
        assert new.files[0].digest == hashlib.sha256(new_text).hexdigest()
        if new_text == old_text:
            assert growth(old, new) == "same"
        elif old_text.endswith(b"\n") or new_text[len(old_text) :].startswith((b"\n", b"\r\n")):
            assert growth(old, new) == "grown"
        else:
            assert growth(old, new) == "changed"


@given(data=st.data(), content=st.binary(min_size=1, max_size=40))
def test_a_changed_byte_is_a_change_even_if_lines_are_appended(data: st.DataObject, content: bytes) -> None:
    old_text = b'{"a": 1}\n' + content
    position = data.draw(st.integers(0, len(old_text) - 1))
    changed = bytearray(old_text)
    changed[position] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(old_text)
        old = fingerprint_of(path)
        rewrite(path, bytes(changed) + data.draw(st.sampled_from([b"", b"\n{}\n"])))
        Path(folder, "b.jsonl").write_bytes(b"{}\n")
        assert growth(old, take_fingerprint(discover(DatasetConfig(path=folder)), old)) == "changed"


def test_a_new_modification_time_with_the_same_bytes_is_the_same(write: Write) -> None:
    path = write("a.jsonl.gz", "{}\n")
    old = fingerprint_of(path)
    rewrite(path, path.read_bytes())
    assert growth(old, fingerprint_of(path, old)) == "same"


def test_rows_of_the_same_bytes_are_not_counted_again(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 1)
    path = write("a.jsonl", "{}\n{}\n")
    old = fingerprint_of(path)
    rewrite(path, path.read_bytes())
    with monkeypatch.context() as patch:
        patch.delattr(fingerprint_module, "count_lines")
        new = fingerprint_of(path, old)
    assert (new.files[0].marks, new.files[0].has(discover(DatasetConfig(path=str(path)))[0].stamp())) == (
        old.files[0].marks,
        True,
    )
    rewrite(path, b"{ }{}\n")
    assert fingerprint_of(path, new).rows == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("c.jsonl", "grown"), ("ab.jsonl", "changed"), ("0.jsonl", "changed"), ("b/c.jsonl", "grown")],
)
def test_new_files_are_growth_only_if_they_sort_last(write: Write, tmp_path: Path, name: str, expected: str) -> None:
    write("a.jsonl", '{"a": 1}\n')
    write("b.jsonl", '{"a": 2}\n')
    old = fingerprint_of(tmp_path)
    write(name, '{"a": 3}\n')
    assert growth(old, fingerprint_of(tmp_path, old)) == ("changed" if name < "b.jsonl" else expected)


def test_only_the_last_file_may_grow_and_no_file_may_vanish(write: Write, tmp_path: Path) -> None:
    first, last = write("a.jsonl", '{"a": 1}\n'), write("b.jsonl", '{"a": 2}\n')
    old = fingerprint_of(tmp_path)
    rewrite(last, last.read_bytes() + b"{}\n")
    write("c.jsonl", "{}\n")
    assert growth(old, fingerprint_of(tmp_path, old)) == "grown"
    rewrite(first, first.read_bytes() + b"{}\n")
    assert growth(old, fingerprint_of(tmp_path, old)) == "changed"
    first.unlink()
    (tmp_path / "c.jsonl").unlink()
    assert growth(old, fingerprint_of(tmp_path, old)) == "changed"


@pytest.mark.parametrize(
    ("old_text", "appended", "expected"),
    [
        ("id,a\n1,x\n", "2,y\n", "grown"),
        ("id,a\n1,x", "\n2,y", "grown"),
        ("id,a\n1,x", "2,y\n", "changed"),
        ('id,a\n1,5" x\n', "2,y\n", "changed"),
    ],
)
def test_csv_grows_by_whole_records(write: Write, old_text: str, appended: str, expected: str) -> None:
    path = write("a.csv", old_text)
    old = fingerprint_of(path)
    rewrite(path, (old_text + appended).encode())
    assert growth(old, fingerprint_of(path, old)) == expected


def test_appending_to_a_compressed_file_is_a_change(write: Write) -> None:
    path = write("a.jsonl.gz", "{}\n")
    old = fingerprint_of(path)
    rewrite(path, path.read_bytes() * 2)
    new = fingerprint_of(path, old)
    assert (new.rows, growth(old, new)) == (2, "changed")


def test_another_format_is_a_change(write: Write) -> None:
    path = write("a.json", '[{"a": 1},\n{"a": 2}]')
    old = fingerprint_of(path)
    new = take_fingerprint(discover(DatasetConfig(path=str(path), format="csv")), old)
    assert growth(old, new) == "changed"
