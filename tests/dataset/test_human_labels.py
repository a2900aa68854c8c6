"""Human labels and typed columns: a value means the same in whatever type and spelling a tool has written it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import HumanLabel, load_config
from runner.dataset import LabelKind
from runner.dataset.carried_columns import human_reader, number_of, to_type
from runner.errors import BadRow
from runner.types import Sample

Read = Callable[..., list[Sample]]
NAMES = ("human_winner", "human_score", "human_label")


def read_label(value: Any, kind: LabelKind, map_: dict[str, Any] | None = None) -> tuple[Any, ...]:
    return human_reader(HumanLabel.model_validate({"column": "c", "map": map_}), kind)(value)


@pytest.mark.parametrize(
    ("kind", "map_", "value", "expected"),
    [
        ("winner", None, "1", ("1", None, None)),
        ("winner", None, 2, ("2", None, None)),
        ("winner", None, 1.0, ("1", None, None)),
        ("winner", None, "1.0", ("1", None, None)),
        ("winner", None, " 2 ", ("2", None, None)),
        ("winner", None, Decimal("2.00"), ("2", None, None)),
        ("winner", None, "TIE", ("tie", None, None)),
        ("winner", None, "A", (None, None, "A")),
        ("winner", None, 3, (None, None, "3")),
        ("winner", None, 3.0, (None, None, "3")),
        ("winner", None, 1.5, (None, None, "1.5")),
        ("winner", None, True, (None, None, "true")),
        ("winner", None, ["1"], (None, None, '["1"]')),
        ("winner", None, None, (None, None, None)),
        ("winner", None, float("nan"), (None, None, None)),
        ("score", None, 4, (None, 4.0, None)),
        ("score", None, "4.5", (None, 4.5, None)),
        ("score", None, Decimal("4.50"), (None, 4.5, None)),
        ("score", None, "1e1", (None, 10.0, None)),
        ("score", None, "1", (None, 1.0, None)),
        ("score", None, "1_2", (None, None, "1_2")),
        ("score", None, "good", (None, None, "good")),
        ("score", None, False, (None, None, "false")),
        ("score", None, "nan", (None, None, "nan")),
        ("score", None, "inf", (None, None, "inf")),
        ("score", None, float("nan"), (None, None, None)),
        ("score", None, 10**400, (None, None, str(10**400))),
        ("score", None, "", (None, None, None)),
        ("label", None, "1", (None, None, "1")),
        ("label", None, 4.0, (None, None, "4")),
        ("label", None, Decimal("1.50"), (None, None, "1.50")),
        ("winner", {"model_a": 1, "model_b": 2, "both": "tie"}, "model_b", ("2", None, None)),
        ("winner", {"model_a": 1, "model_b": 2}, "Model_B", (None, None, "Model_B")),
        ("winner", {"model_a": 1, "model_b": 2}, "model_b\n", ("2", None, None)),
        ("winner", {"0": "1", "1": "2"}, 1, ("2", None, None)),
        ("winner", {"0": "1", "1": "2"}, 0.0, ("1", None, None)),
        ("winner", {"0": "1", "1": "2"}, "1.0", ("2", None, None)),
        ("winner", {"0": "1", "1": "2"}, Decimal("0.00"), ("1", None, None)),
        ("winner", {"0.0": "1", "1.0": "2"}, 1, ("2", None, None)),
        ("winner", {"0.5": "1", "1": "2"}, ".5", ("1", None, None)),
        ("winner", {"1": "1", "1.0": "2"}, "1.0", ("2", None, None)),
        ("winner", {"1": "1", "1.0": "2"}, "1.00", (None, None, "1.00")),
        ("winner", {"true": 1, "false": 2}, False, ("2", None, None)),
        ("winner", {"true": 1, "false": 2}, "TRUE", ("1", None, None)),
        ("winner", {"True": 1, "False": 2}, "true", ("1", None, None)),
        ("score", {"bad": 1, "good": 2}, "good", (None, 2.0, None)),
        ("score", {"a": 1, "b": 2, "both": "tie"}, "b", ("2", None, None)),
        ("winner", {"bad": 1, "good": 2}, "good", ("2", None, None)),
        ("score", {"bad": 0, "good": 1}, "bad", (None, 0.0, None)),
        ("winner", {"bad": 0, "good": 10}, "good", (None, 10.0, None)),
        ("winner", {"a": 1, "b": 2}, None, (None, None, None)),
        ("winner", {"1": 1, "2": 2, "": "tie"}, None, ("tie", None, None)),
        ("winner", {"1": 1, "2": 2, "": "tie"}, "", ("tie", None, None)),
        ("winner", {"1": 1, "2": 2, "": "tie"}, float("nan"), ("tie", None, None)),
        ("winner", {"1": 1, "2": 2, "": "tie"}, 2.0, ("2", None, None)),
        ("winner", {"1": 1, "2": 2, "": "tie"}, "null", (None, None, "null")),
        ("winner", {"1": 1, "2": 2, "null": "tie"}, None, (None, None, None)),
        ("winner", {"1": 1, "2": 2, "null": "tie"}, "null", ("tie", None, None)),
        ("score", {"good": 2, "": 0}, None, (None, 0.0, None)),
        ("winner", None, "  ", (None, None, None)),
    ],
)
def test_a_human_label_goes_where_its_meaning_belongs(
    kind: LabelKind, map_: dict[str, Any] | None, value: Any, expected: tuple[Any, ...]
) -> None:
    assert read_label(value, kind, map_) == expected


@given(
    number=st.integers(0, 3) | st.integers(-(10**6), 10**6) | st.decimals(-100, 100, places=2),
    kind=st.sampled_from(["winner", "score", "label"]),
    mapped=st.booleans(),
)
def test_every_tool_writes_the_same_label(number: int | Decimal, kind: LabelKind, mapped: bool) -> None:
    """An int, a float, a DECIMAL and their texts give the same winner or score, with and without a map."""
    exact = Decimal(number)
    values: list[Any] = [exact, float(exact), str(exact), f"{exact:.3f}", f" {exact}", str(float(exact))]
    if exact == exact.to_integral_value():
        values.append(int(exact))
    found = [read_label(value, kind, {str(exact): 1, "x": 2} if mapped else None) for value in values]
    assert len({one[:2] for one in found}) == 1
    assert len({one[2] is None for one in found}) == 1


@given(st.text(max_size=12) | st.from_regex(r"[+-]?[0-9_.eE]{1,8}", fullmatch=True))
def test_only_a_decimal_number_is_a_number(text: str) -> None:
    number = number_of(text)
    try:
        expected: float | None = float(text)
    except ValueError:
        expected = None
    if "_" in text or expected is None or expected in (float("inf"), float("-inf")) or expected != expected:
        assert number is None
    else:
        assert number == expected


@pytest.mark.parametrize("gaps", [False, True])
def test_one_column_of_labels_from_many_tools(tmp_path: Path, read: Read, gaps: bool) -> None:
    """The same labels as JSON, CSV and Parquet columns of every numeric type, with gaps and without."""
    labels: list[int | None] = [1, 2, None, 2] if gaps else [1, 2, 1, 2]
    types = [pa.int8(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(21, 2), pa.string()]
    expected = [None if label is None else str(label) for label in labels]
    for number, type_ in enumerate(types):
        column = pa.array(labels, pa.int64()).cast(type_)
        table = pa.table({"h": column, "question": ["q"] * 4})
        pq.write_table(table, tmp_path / f"{number}.parquet")
        pa.csv.write_csv(table, tmp_path / f"{number}.csv")
        for name in (f"{number}.parquet", f"{number}.csv"):
            samples = read(tmp_path / name, human_label="h", label_kind="winner")
            assert [sample.columns["human_winner"] for sample in samples] == expected, (name, type_)
            samples = read(tmp_path / name, human_label="h", label_kind="score")
            assert [sample.columns["human_score"] for sample in samples] == labels, (name, type_)
    floats = io.StringIO()
    csv.writer(floats).writerows([["h", "q"], *[["" if label is None else float(label), "x"] for label in labels]])
    (tmp_path / "floats.csv").write_text(floats.getvalue(), encoding="utf-8")
    (tmp_path / "floats.jsonl").write_text("".join(json.dumps({"h": label}) + "\n" for label in labels))
    for name in ("floats.csv", "floats.jsonl"):
        samples = read(tmp_path / name, human_label="h", label_kind="winner")
        assert [sample.columns["human_winner"] for sample in samples] == expected, name


@pytest.mark.parametrize("null", ["null", "~", "NULL"])
def test_ties_that_are_written_as_null(tmp_path: Path, read: Read, null: str) -> None:
    """`{null: tie}` names the rows without a label; a quoted "null" is that text."""
    yaml = f"dataset: {{path: d.csv, human_label: {{column: h, map: {{1: 1, 2: 2, {null}: tie}}}}}}\njudge: {{}}\n"
    (tmp_path / "j.yaml").write_text(yaml)
    dataset = load_config(tmp_path / "j.yaml").dataset
    assert dataset.human_label is not None
    assert dataset.human_label.map == {"1": "1", "2": "2", "": "tie"}
    (tmp_path / "d.csv").write_text("h,question\n1,q\n,q\n2.0,q\n")
    pq.write_table(pa.table({"h": [1.0, None, 2.0], "question": ["q"] * 3}), tmp_path / "d.parquet")
    (tmp_path / "d.jsonl").write_text('{"h": 1}\n{"h": null}\n{"h": "2"}\n')
    for name in ("d.csv", "d.parquet", "d.jsonl"):
        samples = read(tmp_path / name, human_label=dataset.human_label, label_kind="winner")
        assert [sample.columns["human_winner"] for sample in samples] == ["1", "tie", "2"], name
    (tmp_path / "j.yaml").write_text(yaml.replace(null, f'"{null}"'))
    quoted = load_config(tmp_path / "j.yaml").dataset.human_label
    assert quoted is not None
    assert quoted.map == {"1": "1", "2": "2", null: "tie"}


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("int64", "1.0", 1),
        ("int64", Decimal("7.00"), 7),
        ("int64", float("nan"), None),
        ("int64", "9007199254740993", 9007199254740993),
        ("int64", "9007199254740993.0", 9007199254740993),
        ("int8", "1e2", 100),
        ("float64", Decimal("1.50"), 1.5),
        ("bool", "1.0", True),
        ("bool", 0, False),
        ("bool", "TRUE", True),
    ],
)
def test_a_kept_number_has_the_same_value(type_: str, value: Any, expected: Any) -> None:
    assert to_type(type_)(value) == expected


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("int64", "1_2"),
        ("float64", "1_2"),
        ("int64", "1.5"),
        ("int64", Decimal("1.5")),
        ("int64", "1e999999999"),
        ("int8", "128"),
        ("int64", "inf"),
        ("bool", "2"),
    ],
)
def test_what_is_no_such_number_is_a_bad_row(type_: str, value: Any) -> None:
    with pytest.raises(BadRow, match=f"does not fit the type {type_}"):
        to_type(type_)(value)


def test_an_id_is_the_same_number_in_columns_of_every_type(tmp_path: Path, read: Read) -> None:
    """A gap makes pandas write whole numbers as floats. The id of a row with a gap is its position."""
    types = [pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(21, 2), pa.string()]
    for type_ in types:
        ids = pa.array([7, None, 10], pa.int64()).cast(type_)
        pq.write_table(pa.table({"id": ids, "question": ["q"] * 3}), tmp_path / "ids.parquet")
        assert [sample.id for sample in read(tmp_path / "ids.parquet")] == ["7", "1", "10"], type_
    (tmp_path / "ids.jsonl").write_text('{"id": 7.0}\n{"id": 7.5}\n{"id": "7.0"}\n{"id": 9007199254740993}\n')
    assert [sample.id for sample in read(tmp_path / "ids.jsonl")] == ["7", "7.5", "7.0", "9007199254740993"]
