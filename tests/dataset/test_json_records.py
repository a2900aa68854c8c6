"""A JSON file may have its rows under a key; where it does, messages name the key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import DatasetConfig
from runner.dataset import chunks, discover, growth, take_fingerprint
from runner.dataset.data_file import DataFile
from runner.dataset.json_reader import load_array
from runner.errors import DatasetError
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., list[Sample]]

ROWS = [{"id": "a", "question": "q", "answer": "x"}, {"id": "b", "question": "q", "answer": "y"}]


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"data": ROWS}, "data"),
        ({"version": 1, "meta": {"n": 2}, "data": {"rows": ROWS}}, "data.rows"),
        ({"data.rows": ROWS, "data": {"rows": []}}, "data.rows"),
        ({"data": [], "数据": ROWS}, "数据"),
    ],
)
def test_rows_under_a_key_are_read(write: Write, read: Read, document: Any, key: str, packing: str) -> None:
    path = write(f"a.json{packing}", json.dumps(document, indent=1))
    samples = read(path, records=key)
    assert [(sample.id, sample.place) for sample in samples] == [
        ("a", f"a.json{packing}:1"),
        ("b", f"a.json{packing}:2"),
    ]
    files = discover(DatasetConfig(path=str(path), records=key))
    assert take_fingerprint(files).rows == len(ROWS)


def test_rows_that_only_a_forgiving_reader_reads_are_read(write: Write, read: Read) -> None:
    (sample,) = read(write("a.json", '{"data": [{"id": "a", "score": NaN}]}'), records="data")
    assert (sample.id, sample.record["score"]) == ("a", None)


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('{"data": []}', "date", r"no key 'date' \(did you mean 'data'\?\); the keys are data"),
        ('{"data": {"x": 1}}', "data.rows", "no key 'rows'"),
        ('{"data": 3}', "data.rows", "no key 'rows' in a number"),
        ('[{"a": 1}]', "data", "no key 'data' in a list; remove dataset.records"),
        ('{"data": {"rows": [{"id": 1}]}}', "data", "found an object under 'data'; .* set dataset.records: data.rows"),
        ('{"data": "x"}', "data", "expected one JSON array of objects, found a string under 'data'"),
        ('{"data": [', "data", "broken JSON"),
    ],
)
def test_a_key_that_leads_to_no_rows_is_an_error(write: Write, read: Read, text: str, key: str, expected: str) -> None:
    with pytest.raises(DatasetError, match=expected):
        read(write("a.json", text), records=key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"version": 1, "data": [{"id": 1}]}', "if the rows are under a key, set dataset.records: data"),
        ('{"a": {"rows": [{}]}, "b": [{}]}', "set dataset.records: b or dataset.records: a.rows"),
        ('{"id": 1}\n{"id": 2}\n', "it holds one object per line; set dataset.format: jsonl"),
        ('{"id": 1}', "for one object per line set dataset.format: jsonl"),
    ],
)
def test_a_file_without_a_list_says_what_it_has(write: Write, read: Read, text: str, expected: str) -> None:
    with pytest.raises(DatasetError, match=expected):
        read(write("a.json", text))


def test_a_key_for_other_formats_is_an_error(write: Write, read: Read) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.records: only a json file .*/a\.jsonl is jsonl"):
        read(write("a.jsonl", "{}\n"), records="data")
    with pytest.raises(DatasetError, match=r"dataset\.csv: only csv and tsv .*/a\.jsonl is jsonl"):
        read(write("a.jsonl", "{}\n"), csv={"quote": None})
    assert read(write("a.jsonl", "{}\n"), csv={"quote": '"', "delimiter": "auto"})


def test_another_key_counts_the_rows_of_an_unchanged_file_again(write: Write) -> None:
    path = write("a.json", json.dumps({"train": ROWS, "test": ROWS[:1]}))
    old = take_fingerprint(discover(DatasetConfig(path=str(path), records="train")))
    new = take_fingerprint(discover(DatasetConfig(path=str(path), records="test")), old)
    assert (old.rows, new.rows, growth(old, new)) == (2, 1, "changed")


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.é", max_size=3), inner, max_size=3),
    max_leaves=8,
)


def reference(value: Any, path: str) -> Any:
    """Follow a path as dataset.records does, in decoded JSON."""
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    head, dot, rest = path.partition(".")
    return reference(value.get(head), rest) if dot and rest else None


@given(document=VALUE, path=st.text("ab.é", min_size=1, max_size=4))
def test_any_document_gives_the_rows_under_its_key_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, document: Any, path: str
) -> None:
    target = tmp_path_factory.getbasetemp() / "any.json"
    target.write_text(json.dumps(document), encoding="utf-8")
    file = DataFile(target, "any.json", "json", records=path)
    expected = reference(document, path)
    if isinstance(expected, list):
        assert [json.loads(bytes(row)) for row in load_array(file)] == expected
        assert sum(map(len, chunks((file,)))) == len(expected)
    else:
        with pytest.raises(DatasetError):
            load_array(file)
