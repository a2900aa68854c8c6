"""The files that a path selects, their order, and the error if it selects none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import DatasetConfig
from runner.dataset import discover
from runner.errors import DatasetError

Write = Callable[[str, bytes | str], Path]


def file_names(path: Path | str, format_: str = "auto") -> list[str]:
    return [file.name for file in discover(DatasetConfig.model_validate({"path": str(path), "format": format_}))]


def test_the_name_of_a_file_is_relative_to_its_folder(write: Write) -> None:
    (file,) = discover(DatasetConfig(path=str(write("a.csv.zst", "id\n1\n"))))
    assert (file.name, file.format, file.compression) == ("a.csv.zst", "csv", "zstd")


def test_a_directory_is_listed_recursively_in_byte_order(write: Write, tmp_path: Path) -> None:
    for name in ("b/a.jsonl", "B.jsonl", "a.jsonl.gz", "b-c.jsonl", "é.jsonl", ".hidden.jsonl", ".git/x.jsonl", "R.md"):
        write(name, "{}\n")
    assert file_names(tmp_path) == ["B.jsonl", "a.jsonl.gz", "b-c.jsonl", "b/a.jsonl", "é.jsonl"]


def test_a_glob_selects_the_files_it_matches(write: Write, tmp_path: Path) -> None:
    for name in ("x/1.jsonl", "x/y/2.jsonl", "z/3.jsonl", "x/4.csv"):
        write(name, "{}\n")
    assert file_names(f"{tmp_path}/x/*.jsonl") == ["1.jsonl"]
    assert file_names(f"{tmp_path}/**/*.jsonl") == ["x/1.jsonl", "x/y/2.jsonl", "z/3.jsonl"]


def test_an_existing_file_with_brackets_in_its_name_is_not_a_glob(write: Write) -> None:
    assert file_names(write("a[1].jsonl", "{}\n")) == ["a[1].jsonl"]


def test_a_configured_format_overrides_the_extension_and_filters_a_directory(write: Write, tmp_path: Path) -> None:
    write("a.csv", "id\n")
    write("b.jsonl", "{}\n")
    assert file_names(tmp_path, "csv") == ["a.csv"]
    (file,) = discover(DatasetConfig(path=str(write("rows.txt", "{}\n")), format="jsonl"))
    assert file.format == "jsonl"


@pytest.mark.parametrize(
    ("files", "path", "expected_texts"),
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
def test_a_path_that_cannot_be_used_is_explained(
    write: Write, tmp_path: Path, files: list[str], path: str, expected_texts: list[str]
) -> None:
    for name in files:
        write(name, "{}\n")
    with pytest.raises(DatasetError) as caught:
        file_names(tmp_path / path)
    assert all(text in str(caught.value) for text in expected_texts), str(caught.value)


def test_an_s3_path_is_rejected() -> None:
    with pytest.raises(DatasetError, match="not a local path"):
        file_names("s3://bucket/something")
