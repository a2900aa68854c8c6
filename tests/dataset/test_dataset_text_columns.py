"""Some fields of the dataset are read as columns of texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.config import DatasetConfig
from runner.dataset import RawRow, SampleReader, TextReader, chunks, columns, discover

NAMES = ("question", "answer1", "answer2")
Write = Callable[[str, bytes | str], Path]


def rows_of(path: Path, **section: Any) -> tuple[SampleReader, list[RawRow]]:
    config = DatasetConfig.model_validate({"path": str(path), **section})
    files = discover(config)
    reader = SampleReader(config, columns(files), label_kind="winner")
    return reader, [row for chunk in chunks(files, columns=reader.columns) for row in chunk]


def read(path: Path, **section: Any) -> list[list[str | None]]:
    reader, rows = rows_of(path, **section)
    return [column.to_pylist() for column in TextReader(reader, NAMES).columns(rows)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> SampleReader:
    path = tmp_path_factory.mktemp("texts") / "d.jsonl"
    path.write_text(json.dumps(dict.fromkeys((*NAMES, "other"), "x")))
    return rows_of(path)[0]


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        (b"null", [None, None, None]),
        (b"[1]", [None, None, None]),
        (b"{", [None, None, None]),
        (b'{"question": "q"} {}', [None, None, None]),
        (b'{"question": "\xff"}', [None, None, None]),
        (b'{"question": "\\ud800", "answer1": "a"}', ["\ufffd", "a", None]),
        (b'{"question": "one", "question": "two"}', ["two", None, None]),
        (b'{"question": "q", "answer1": NaN, "answer2": {"a": [1, null]}}', ["q", None, '{"a":[1,null]}']),
    ],
)
def test_an_unusual_line_affects_no_other_row(reader: SampleReader, line: bytes, texts: list[str | None]) -> None:
    lines = [b'{"question": "before"}', line, b'{"answer2": "after"}']
    raws = [RawRow(number, "d.jsonl", number + 1, payload, len(payload)) for number, payload in enumerate(lines)]
    rows = zip(*(column.to_pylist() for column in TextReader(reader, NAMES).columns(raws)), strict=True)
    assert list(map(list, rows)) == [["before", None, None], texts, [None, None, "after"]]


def test_missing_rows_and_fields_are_null(reader: SampleReader) -> None:
    row = RawRow(0, "d.jsonl", 1, b'{"question": "q", "answer2": 7}', 9)
    assert [column.to_pylist() for column in TextReader(reader, NAMES).columns([None, row])] == [
        [None, "q"],
        [None, None],
        [None, "7"],
    ]
    assert TextReader(reader, ()).columns([row]) == []


def test_renamed_nested_shared_and_constant_fields(write: Write) -> None:
    row = {"prompt": "p", "reply": {"text": "r"}, "reply.text": "whole", "other": ["x"]}
    path = write("d.jsonl", json.dumps(row) + "\n" + json.dumps({"prompt": 1, "reply": {"text": "in"}}))
    assert read(path, fields={"question": "prompt", "answer1": "other", "answer2": "reply"})[0] == ["p", "1"]
    assert read(path, fields={"question": "prompt", "answer1": "reply.text", "answer2": "other"})[1] == ["whole", "in"]
    assert read(path, fields={"question": "prompt", "answer1": "prompt", "answer2": "prompt"})[2] == ["p", "1"]
    constant = {"question": {"value": "always"}, "answer1": "prompt", "answer2": "other"}
    assert read(path, fields=constant)[0] == ["always", "always"]


def test_csv_json_and_parquet(write: Write, tmp_path: Path) -> None:
    assert read(write("d.csv", "question,answer1,answer2\nq,,2\n"))[2] == ["2"]
    assert read(write("d.json", '[{"question": "q",\n"answer1": "a"}, {"answer2": null}]')) == [
        ["q", None],
        ["a", None],
        [None, None],
    ]
    pq.write_table(pa.table({"question": ["q"], "answer1": [1.5], "answer2": [["x"]]}), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet") == [["q"], ["1.5"], ['["x"]']]
