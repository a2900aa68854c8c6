"""Which files a path names, in which order, and what is said when it names none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import DatasetConfig
from runner.dataset import discover
from runner.errors import DatasetError

Write = Callable[[str, bytes | str], Path]


def found(path: Path | str, format_: str = "auto") -> list[str]:
    return [file.name for file in discover(DatasetConfig.model_validate({"path": str(path), "format": format_}))]


def test_a_file_is_named_relative_to_its_folder(write: Write) -> None:
    (file,) = discover(DatasetConfig(path=str(write("a.csv.zst", "id\n1\n"))))
    assert (file.name, file.format, file.compression) == ("a.csv.zst", "csv", "zstd")


def test_a_directory_is_read_in_byte_order_at_any_depth(write: Write, tmp_path: Path) -> None:
    for name in ("b/a.jsonl", "B.jsonl", "a.jsonl.gz", "b-c.jsonl", "é.jsonl", ".hidden.jsonl", ".git/x.jsonl", "R.md"):
        write(name, "{}\n")
    assert found(tmp_path) == ["B.jsonl", "a.jsonl.gz", "b-c.jsonl", "b/a.jsonl", "é.jsonl"]


def test_a_glob_takes_what_it_matches(write: Write, tmp_path: Path) -> None:
    for name in ("x/1.jsonl", "x/y/2.jsonl", "z/3.jsonl", "x/4.csv"):
        write(name, "{}\n")
    assert found(f"{tmp_path}/x/*.jsonl") == ["1.jsonl"]
    assert found(f"{tmp_path}/**/*.jsonl") == ["x/1.jsonl", "x/y/2.jsonl", "z/3.jsonl"]


def test_a_name_with_brackets_is_a_file_where_there_is_one(write: Write) -> None:
    assert found(write("a[1].jsonl", "{}\n")) == ["a[1].jsonl"]


def test_a_declared_format_wins_over_the_ending_and_picks_in_a_directory(write: Write, tmp_path: Path) -> None:
    write("a.csv", "id\n")
    write("b.jsonl", "{}\n")
    assert found(tmp_path, "csv") == ["a.csv"]
    (file,) = discover(DatasetConfig(path=str(write("rows.txt", "{}\n")), format="jsonl"))
    assert file.format == "jsonl"


@pytest.mark.parametrize(
    ("files", "path", "says"),
    [
        (["answers.jsonl"], "anwers.jsonl", ["anwers.jsonl does not exist", "did you mean 'answers.jsonl'?"]),
        (["data/a.jsonl"], "dat/a.jsonl", ["does not exist", "did you mean 'data'?"]),
        (["readme.md"], "", ["no data file", "readme.md", ".jsonl"]),
        (["a.xlsx"], "a.xlsx", ["the ending of", "a.xlsx", ".parquet"]),
        (["a.jsonl", "b.csv"], "", ["several formats", "csv (b.csv)", "jsonl (a.jsonl)"]),
        (["a.jsonl"], "*.csv", ["no file matches", "a.jsonl"]),
        (["a.parquet.gz"], "a.parquet.gz", ["the ending of"]),
    ],
)
def test_what_does_not_fit_is_said(write: Write, tmp_path: Path, files: list[str], path: str, says: list[str]) -> None:
    for name in files:
        write(name, "{}\n")
    with pytest.raises(DatasetError) as caught:
        found(tmp_path / path)
    assert all(text in str(caught.value) for text in says), str(caught.value)


def test_a_remote_path_is_refused() -> None:
    with pytest.raises(DatasetError, match="not a local path"):
        found("s3://bucket/something")
