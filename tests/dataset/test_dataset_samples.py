"""How a row becomes a sample: fields, id, bad rows, human labels and kept columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import DatasetConfig
from runner.dataset import Columns, RawRow, SampleReader, check_columns, columns, discover
from runner.errors import DatasetError
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., list[Sample]]


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def config_and_columns(path: Path, **section: Any) -> tuple[DatasetConfig, Columns]:
    config = DatasetConfig.model_validate({"path": str(path), **section})
    return config, columns(discover(config))


def test_fields_follow_columns_constants_and_nested_paths(write: Write, read: Read) -> None:
    path = write(
        "a.jsonl",
        lines(
            {"key": 7, "prompt": "q", "m": {"gold": {"text": "g"}, "x.y": 1}, "m.x.y": "literal"},
            {"key": 8, "m": {"x.y": 2}},
            {"key": 9, "prompt": None, "m": "no object"},
        ),
    )
    fields = {"id": "key", "question": "prompt", "reference": "m.gold.text", "deep": "m.x.y", "lang": {"value": "zh"}}
    assert [dict(sample.fields) for sample in read(path, fields=fields)] == [
        {"id": 7, "question": "q", "reference": "g", "deep": "literal", "lang": "zh"},
        {"id": 8, "deep": 2, "lang": "zh"},
        {"id": 9, "question": None, "lang": "zh"},
    ]


@pytest.mark.parametrize(
    ("id_", "text", "problem"),
    [
        ("x", "x", None),
        (5, "5", None),
        (1.5, "1.5", None),
        (10**30, str(10**30), None),
        (True, "true", None),
        (None, "0", None),
        ("", "0", None),
        ([1], "0", "the id is a list; expected a text or a number"),
        ({}, "0", "the id is an object; expected a text or a number"),
    ],
)
def test_the_id_is_text_and_defaults_to_the_ordinal(
    write: Write, read: Read, id_: Any, text: str, problem: str | None
) -> None:
    (sample,) = read(write("a.jsonl", lines({"id": id_})))
    assert (sample.id, sample.problem) == (text, problem)


def test_without_an_id_column_the_ordinal_is_the_id(write: Write, read: Read) -> None:
    assert [sample.id for sample in read(write("a.jsonl", lines({"a": 1}, {"a": 2})))] == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "expected_texts"),
    [
        (b'{"a": 1', "broken JSON at column 8"),
        (b'{"a": tru}', "broken JSON at column 7: Expecting value, found 'tru}'"),
        (b"[1, 2]", "expected a JSON object, found a list"),
        (b'"text"', "expected a JSON object, found a string"),
        (b"12", "expected a JSON object, found a number"),
        (b"null", "expected a JSON object, found null"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 8"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "broken JSON"),
    ],
)
def test_a_bad_row_is_explained_and_affects_no_other_row(
    write: Write, read: Read, line: bytes, expected_texts: str
) -> None:
    first, bad, last = read(write("a.jsonl", b'{"id": "x"}\n\n' + line + b'\n{"id": "y"}\n'), keep=["id"])
    assert bad.problem is not None
    assert expected_texts in bad.problem
    assert (bad.ordinal, bad.id, bad.place, bad.fields) == (1, "1", "a.jsonl:3", {})
    assert bad.columns == {"id": None}
    assert (first.problem, last.problem, last.id) == (None, None, "y")


def test_json_that_only_python_accepts_is_read(write: Write, read: Read) -> None:
    path = write("a.jsonl", b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": "\\ud800x", "e": 1' + b"0" * 40 + b"}\r\n")
    (sample,) = read(path, keep=["a", "d", "e"])
    assert sample.record == {"a": None, "b": None, "c": None, "d": "\ud800x", "e": 10**40}
    assert sample.columns == {"a": None, "d": "\ufffdx", "e": str(10**40)}
    assert sample.problem is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(record=st.dictionaries(st.text(), JSON, max_size=4), ascii_only=st.booleans())
def test_any_json_object_is_read_as_by_json_loads(record: dict[str, Any], ascii_only: bool) -> None:
    text = json.dumps(record, ensure_ascii=ascii_only)
    payload = text.encode("utf-8", "surrogatepass")
    sample = READER.sample(RawRow(0, "a.jsonl", 1, payload, len(payload)))
    try:
        payload.decode()
    except UnicodeDecodeError:
        assert sample.problem is not None
    else:
        assert sample.record == json.loads(text)


@given(payload=st.binary(max_size=60))
def test_no_bytes_make_the_reader_raise(payload: bytes) -> None:
    sample = READER.sample(RawRow(3, "a.jsonl", 4, payload, len(payload)))
    try:
        readable = isinstance(json.loads(payload.decode()), dict)
    except ValueError:
        readable = False
    assert (sample.problem is None) == readable
    msgspec.json.encode(sample.columns)


READER = SampleReader(
    DatasetConfig.model_validate({"path": "a.jsonl", "keep": ["k"], "human_label": "h"}),
    Columns(()),
    label_kind="winner",
)


def test_model_names_are_copied_as_text(write: Write, read: Read) -> None:
    path = write("a.jsonl", lines({"m": "gpt", "n": 4}, {}))
    first, second = read(path, fields={"model1": "m", "model2": {"value": "base"}, "model": "n"})
    assert first.columns == {"model": "4", "model1": "gpt", "model2": "base"}
    assert second.columns == {"model": None, "model1": None, "model2": "base"}


def test_kept_json_columns_are_text_unless_a_type_is_given(write: Write, read: Read) -> None:
    row = {"s": "x", "n": 1.0, "o": {"a": [1]}, "t": True, "z": None}
    keep: dict[str, Any] = {**{name: name for name in row}, "first": "o.a", "gone": "o.b"}
    assert read(write("a.jsonl", lines(row, {"o": {"b": 2}})), keep=keep)[0].columns == {
        "s": "x",
        "n": "1.0",
        "o": '{"a":[1]}',
        "t": "true",
        "z": None,
        "first": "[1]",
        "gone": None,
    }


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("int64", "12", 12),
        ("int64", 3.0, 3),
        ("int8", -128, -128),
        ("int16", "", None),
        ("float64", "2.5", 2.5),
        ("double", 2, 2.0),
        ("float32", None, None),
        ("bool", "True", True),
        ("bool", 0, False),
        ("string", 5, "5"),
        ("string", "", ""),
    ],
)
def test_kept_columns_are_converted_to_the_configured_type(
    write: Write, read: Read, type_: str, value: Any, expected: Any
) -> None:
    (sample,) = read(write("a.jsonl", lines({"v": value})), keep={"v": {"column": "v", "type": type_}})
    assert sample.problem is None
    assert sample.columns["v"] == expected
    assert pa.array([sample.columns["v"]], pa.type_for_alias(type_)).null_count == (expected is None)


@pytest.mark.parametrize(
    ("type_", "value"), [("int64", "x"), ("int64", 1.5), ("int8", 128), ("int64", True), ("float64", [1]), ("bool", 2)]
)
def test_a_kept_value_that_cannot_be_converted_makes_its_row_bad(
    write: Write, read: Read, type_: str, value: Any
) -> None:
    (sample,) = read(write("a.jsonl", lines({"id": "x", "v": value})), keep={"v": {"column": "v", "type": type_}})
    assert sample.problem is not None
    assert sample.problem.startswith("column 'v': ")
    assert f"does not fit the type {type_}" in sample.problem
    assert (sample.id, sample.columns) == ("x", {"v": None})


def test_result_fields_have_the_types_of_the_parquet_file(tmp_path: Path) -> None:
    table = pa.table(
        {
            "s": pa.array([{"n": 1}], pa.struct([("n", pa.int32())])),
            "at": pa.array([0], pa.timestamp("ns", "UTC")),
            "d": pa.array(["x"]).dictionary_encode(),
            "l": pa.array([[1.5]]),
            "c": pa.array([7]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    keep = {"n": "s.n", "at": "at", "d": "d", "l": "l", "c": {"column": "c", "type": "string"}}
    section = {"keep": keep, "human_label": "c", "fields": {"model": "d"}}
    config, found = config_and_columns(tmp_path / "a.parquet", **section)
    assert SampleReader(config, found).result_fields() == [
        pa.field("human_winner", pa.string()),
        pa.field("human_score", pa.float64()),
        pa.field("human_label", pa.string()),
        pa.field("model", pa.string()),
        pa.field("n", pa.int32()),
        pa.field("at", pa.timestamp("ns", "UTC")),
        pa.field("d", pa.string()),
        pa.field("l", pa.list_(pa.float64())),
        pa.field("c", pa.string()),
    ]


def test_kept_parquet_columns_must_have_one_type_in_all_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"v": ["x"]}), tmp_path / "b.parquet")
    config, found = config_and_columns(tmp_path, keep=["v"])
    with pytest.raises(DatasetError, match=r"'v' has several types: int64 in .*a\.parquet, string in .*b\.parquet"):
        SampleReader(config, found)


def test_columns_are_found_from_headers_and_first_rows(write: Write, tmp_path: Path) -> None:
    _, found = config_and_columns(write("a.jsonl", lines({"a": {"b": {"c": 1}}}, {"d": 1}) + "oops\n"))
    assert found.names == ("a", "d")
    assert [found.has(path) for path in ("a.b.c", "a.b", "d", "a.c", "e")] == [True, True, True, False, False]
    assert found.roots(["a.b.c", "d", "e"]) == ("a", "d")
    _, found = config_and_columns(write("b.csv", "x,y.z\n1,2\n"))
    assert (found.names, found.has("y.z"), found.roots(["y.z"])) == (("x", "y.z"), True, ("y.z",))


@pytest.mark.parametrize(
    ("section", "needed", "expected_texts"),
    [
        ({"fields": {"question": "promt"}}, [], ["a.jsonl", "'promt'", "question", "did you mean 'prompt'?"]),
        ({"fields": {"reference": "meta.golt"}}, [], ["did you mean 'meta.gold'?"]),
        ({"human_label": "rating"}, [], ["'rating'", "human_label"]),
        ({"keep": ["categori"]}, [], ["keep: categori", "did you mean 'category'?"]),
        ({}, ["answer"], ["'answer'", "dataset.fields", "category, meta, prompt"]),
        ({}, ["nothing"], ["'nothing'"]),
    ],
)
def test_a_missing_column_is_named(
    write: Write, section: dict[str, Any], needed: list[str], expected_texts: list[str]
) -> None:
    config, found = config_and_columns(
        write("a.jsonl", lines({"prompt": "q", "meta": {"gold": 1}, "category": "c"})), **section
    )
    with pytest.raises(DatasetError) as caught:
        check_columns(config, needed, found)
    assert all(text in str(caught.value) for text in expected_texts), str(caught.value)


def test_existing_columns_pass_the_check(write: Write) -> None:
    config, found = config_and_columns(
        write("a.jsonl", lines({"prompt": "q"}, {"meta": {"gold": 1}})),
        fields={"question": "prompt", "reference": "meta.gold", "lang": {"value": "en"}},
        keep=["meta"],
    )
    check_columns(config, ["id", "question", "reference", "lang", "prompt"], found)


def test_every_csv_file_must_have_the_columns(write: Write, tmp_path: Path) -> None:
    write("a.csv", "q\n1\n")
    write("b.csv", "p\n1\n")
    config, found = config_and_columns(tmp_path, fields={"question": "q"})
    with pytest.raises(DatasetError, match=r"b\.csv: no column 'q'"):
        check_columns(config, [], found)


@pytest.mark.parametrize(
    ("name", "content", "expected_texts"),
    [
        ("a.jsonl", "", "there are no rows"),
        ("a.jsonl", "\n \n", "there are no rows"),
        ("a.jsonl", "id,x\n1,2\n", "is it JSON lines"),
        ("a.csv", "", "there is no column"),
        ("a.json", "[]", "there are no rows"),
    ],
)
def test_a_dataset_without_rows_is_rejected(write: Write, name: str, content: str, expected_texts: str) -> None:
    with pytest.raises(DatasetError, match=expected_texts):
        config_and_columns(write(name, content))
