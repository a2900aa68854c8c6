"""A column under dataset.optional may come late, or only in some files; where it is missing it is null."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.config import DatasetConfig
from runner.dataset import Columns, SampleReader, check_columns, chunks, columns, discover, growth, take_fingerprint
from runner.errors import DatasetError
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]

EARLY = 250  # rows before the column appears: more than are looked at to find the columns


def samples_of(path: Path, **section: Any) -> list[Sample]:
    config, found = checked(path, **section)
    files = discover(config)
    reader = SampleReader(config, found)
    return [reader.sample(raw) for chunk in chunks(files, columns=reader.columns) for raw in chunk]


def checked(path: Path, **section: Any) -> tuple[DatasetConfig, Columns]:
    config = DatasetConfig.model_validate({"path": str(path), **section})
    found = columns(discover(config), config.optional)
    check_columns(config, [], found)
    return config, found


@pytest.fixture
def late(write: Write) -> Path:
    rows: list[dict[str, Any]] = [{"id": f"r{n}", "answer": "a"} for n in range(EARLY)]
    rows.append({"id": "last", "answer": "a", "gold": "g", "meta": {"human": 4}})
    return write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


MAPPED = {
    "fields": {"reference": "gold"},
    "human_label": "meta.human",
    "keep": {"human": "meta.human", "gold": {"column": "gold", "type": "string"}},
}


def test_a_column_that_comes_late_is_an_error_that_names_the_key(late: Path) -> None:
    with pytest.raises(DatasetError, match=r"no column 'gold' for reference; .*set dataset\.optional: \[gold\]"):
        checked(late, **MAPPED)


@pytest.mark.parametrize("optional", [["gold", "meta"], ["gold", "meta.human"]])
def test_a_column_may_come_late(late: Path, optional: list[str]) -> None:
    first, *_, last = samples_of(late, **MAPPED, optional=optional)
    assert first.fields["reference"] is None
    assert first.columns == {
        "human_winner": None,
        "human_score": None,
        "human_label": None,
        "human": None,
        "gold": None,
    }
    assert first.record["gold"] is None
    assert (last.fields["reference"], last.columns["human_score"], last.columns["human"]) == ("g", 4.0, "4")
    assert last.columns["gold"] == "g"
    assert last.record["meta"] == {"human": 4}


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_a_column_may_be_missing_in_some_files(write: Write, tmp_path: Path, format_: str) -> None:
    for name, row in (("a", {"id": "1", "answer": "a"}), ("b", {"id": "2", "answer": "a", "gold": "g", "n": 7})):
        if format_ == "parquet":
            pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"{name}.parquet")
        else:
            write(f"{name}.csv", ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    section: dict[str, Any] = {"fields": {"reference": "gold"}, "keep": ["n"]}
    with pytest.raises(DatasetError, match=rf"a\.{format_}: no column 'gold' for reference"):
        checked(tmp_path, **section)
    first, second = samples_of(tmp_path, **section, optional=["gold", "n"])
    assert (first.fields["reference"], first.columns["n"]) == (None, None)
    assert (second.fields["reference"], second.columns["n"]) == ("g", "7" if format_ == "csv" else 7)


def test_a_parquet_column_keeps_its_type_where_it_is_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["2"], "at": pa.array([5], pa.timestamp("us"))}), tmp_path / "b.parquet")
    config, found = checked(tmp_path, keep=["at"], optional="at")
    (field,) = SampleReader(config, found).result_fields()
    assert field.type == pa.timestamp("us")


def test_only_what_is_optional_may_be_missing(late: Path) -> None:
    with pytest.raises(DatasetError, match="no column 'goold' for reference"):
        checked(late, fields={"reference": "goold"}, optional=["gold"])


def test_an_optional_name_that_is_nowhere_is_told(write: Write, late: Path) -> None:
    path = write("b.csv", "id,gold\n1,x\n")
    assert checked(path, optional=["gold"])[1].missing_optional() == []
    assert checked(path, optional=["glod"])[1].missing_optional() == [
        "dataset.optional: there is no column 'glod' in any file (did you mean 'gold'?)"
    ]
    assert checked(late, optional=["gold"])[1].missing_optional() == []
    (line,) = checked(late, optional=["anwser"])[1].missing_optional()
    assert "no column 'anwser' in" in line
    assert "(did you mean 'answer'?)" in line


def test_rows_and_growth_do_not_depend_on_what_is_optional(late: Path) -> None:
    old = take_fingerprint(discover(DatasetConfig(path=str(late))))
    files = discover(DatasetConfig(path=str(late), optional=("gold",)))
    assert growth(old, take_fingerprint(files, old)) == "same"
    with late.open("a") as file:
        file.write('{"id": "more", "gold": "h"}\n')
    new = take_fingerprint(files, old)
    assert (growth(old, new), new.rows) == ("grown", EARLY + 2)
