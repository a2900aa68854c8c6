"""A file that is not what its name says is named for what it is, with what to do."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from runner.config import DatasetConfig
from runner.dataset import chunks, columns, discover, take_fingerprint
from runner.dataset.content import guess_encoding
from runner.errors import DatasetError
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., list[Sample]]

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d7a" * 16 + "\nsize 12345\n"
FORMATS = ("jsonl", "json", "csv", "tsv", "parquet")
CHINESE = '{"id": "1", "question": "什么是水？", "answer": "水是液体"}\n'


def problem_of(path: Path) -> str:
    """Every way to open the file gives the same message."""
    files = discover(DatasetConfig(path=str(path)))
    messages = set()
    for read in (columns, take_fingerprint, lambda files: list(chunks(files))):
        with pytest.raises(DatasetError) as caught:
            read(files)
        messages.add(str(caught.value))
    (message,) = messages
    return message


@pytest.mark.parametrize("format_", FORMATS)
def test_a_pointer_of_git_lfs_is_named(write: Write, format_: str) -> None:
    message = problem_of(write(f"a.{format_}", POINTER))
    assert message.endswith(f"a.{format_}: is a Git LFS pointer, not the data; run `git lfs pull`")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("format_", ["jsonl", "json", "csv", "tsv"])
def test_wide_text_is_named(write: Write, format_: str, encoding: str) -> None:
    text = {"jsonl": CHINESE, "json": f"[{CHINESE}]"}.get(format_, "id,question\n1,什么\n")
    if encoding == "utf-32" and format_ in ("jsonl", "json"):
        text = " " + text
    message = problem_of(write(f"a.{format_}", text.encode(encoding)))
    name = encoding[:6]
    assert f"looks like {name.upper()}; save it as UTF-8" in message
    assert (f"dataset.csv: {{encoding: {name}}}" in message) == (format_ in ("csv", "tsv"))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", gzip.compress(b"{}\n", mtime=0), "is compressed with gzip; let its name end in .gz"),
        ("a.csv", pa.compress(b"id\n1\n", codec="zstd", asbytes=True), "is compressed with zstd"),
        ("a.csv", b"PK\x03\x04rest of a workbook", "is a ZIP archive, as Excel workbooks are"),
        ("a.json", b"PAR1 and more", "is Parquet; let its name end in .parquet"),
        ("a.parquet", b"ARROW1\0\0 and more", "is an Arrow file"),
    ],
)
def test_other_content_is_named(write: Write, name: str, content: bytes, expected: str) -> None:
    path = write("a.bin", content).rename(write(name, b""))  # not written packed
    assert f"{name}: {expected}" in problem_of(path)


def test_chinese_in_gbk_is_named_in_each_bad_row(write: Write, read: Read) -> None:
    good, bad = read(write("a.csv", "id,answer\n1,plain\n2,水是液体\n".encode("gbk")))
    assert (good.problem, good.fields["answer"]) == (None, "plain")
    assert bad.problem == "not UTF-8; it looks like GBK: save it as UTF-8, or set dataset.csv: {encoding: gbk}"
    lines = b'{"id": 1, "answer": "x"}\n' + CHINESE.encode("gbk")
    assert [sample.problem for sample in read(write("a.jsonl", lines))] == [
        None,
        "not UTF-8 at byte 30; it looks like GBK: save it as UTF-8",
    ]


@pytest.mark.parametrize("format_", ["jsonl", "json", "csv"])
def test_a_file_in_gbk_is_an_error_that_names_the_encoding(write: Write, format_: str) -> None:
    text = {"jsonl": CHINESE, "json": f"[{CHINESE}]", "csv": "编号,问题\n1,x\n"}[format_]
    path = write(f"a.{format_}", text.encode("gbk"))
    with pytest.raises(DatasetError, match=rf"a\.{format_}.*it looks like GBK: save it as UTF-8") as caught:
        columns(discover(DatasetConfig(path=str(path))))
    assert "JSON lines, one object per line" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "encoding", "guess"),
    [
        ("什么是水？水是液体。", "gbk", "GBK"),
        ("a,什么,b", "gb18030", "GBK"),
        ("café au lait, très bon", "latin-1", None),
        ("naïve", "cp1252", None),
        ("Привет", "koi8-r", None),
        ("plain", "ascii", None),
    ],
)
def test_only_chinese_is_taken_for_gbk(text: str, encoding: str, guess: str | None) -> None:
    assert guess_encoding(text.encode(encoding)) == guess


def test_other_bytes_than_utf8_are_told_how_to_name_their_encoding(write: Write, read: Read) -> None:
    path = write("a.csv", "id,answer\n1,café\n2,ok\n".encode("latin-1"))
    bad, good = read(path)
    assert (bad.problem, good.problem) == ("not UTF-8; save it as UTF-8, or set dataset.csv: {encoding: NAME}", None)
    assert [sample.fields["answer"] for sample in read(path, csv={"encoding": "latin-1"})] == ["café", "ok"]


def test_an_array_in_a_file_of_lines_is_named(write: Write, read: Read) -> None:
    path = write("a.jsonl", '[{"id": 1},\n {"id": 2}]\n')
    with pytest.raises(DatasetError, match=r"it begins like one JSON array: set dataset\.format: json"):
        read(path)
    assert [sample.id for sample in read(path, format="json")] == ["1", "2"]
