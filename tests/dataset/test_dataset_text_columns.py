"""Reading texts column by column gives the same as reading them row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import DatasetConfig
from runner.dataset import RawRow, SampleReader, TextReader, chunks, columns, discover
from runner.dataset.decode import as_text

NAMES = ("question", "answer1", "answer2")
Write = Callable[[str, bytes | str], Path]


def rows_of(path: Path, **section: Any) -> tuple[SampleReader, list[RawRow]]:
    config = DatasetConfig.model_validate({"path": str(path), **section})
    files = discover(config)
    reader = SampleReader(config, columns(files), label_kind="winner")
    return reader, [row for chunk in chunks(files, columns=reader.columns) for row in chunk]


def read(path: Path, **section: Any) -> list[list[str | None]]:
    reader, rows = rows_of(path, **section)
    texts = [column.to_pylist() for column in TextReader(reader, NAMES).columns(rows)]
    assert texts == [[as_text(reader.mapped(row).get(name)) for row in rows] for name in NAMES]
    return texts


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
    max_leaves=4,
)
rows = st.dictionaries(st.sampled_from([*NAMES, "other", "a.b"]), st.text() | values)
lines = st.builds(lambda row, escaped: json.dumps(row, ensure_ascii=escaped).encode(), rows, st.booleans())
unusual_lines = st.sampled_from(
    [
        *(b"null", b"[1]", b"{", b'{"question": "q"} {}', b'{"question": "\\ud800", "answer1": "a"}'),
        *(b'{"question": "one", "question": "two"}', b'{"question": "\xff"}', b'{"question": "q", "answer1": NaN}'),
    ]
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> SampleReader:
    path = tmp_path_factory.mktemp("texts") / "d.jsonl"
    path.write_text(json.dumps(dict.fromkeys((*NAMES, "other"), "x")))
    return rows_of(path)[0]


@given(st.lists(lines | unusual_lines, max_size=6))
def test_any_json_lines(reader: SampleReader, payloads: list[bytes]) -> None:
    raws = [RawRow(number, "d.jsonl", number, line, len(line)) for number, line in enumerate(payloads)]
    texts = [column.to_pylist() for column in TextReader(reader, NAMES).columns(raws)]
    assert texts == [[as_text(reader.mapped(raw).get(name)) for raw in raws] for name in NAMES]


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
