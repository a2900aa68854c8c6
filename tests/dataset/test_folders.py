"""Folders and globs stand for the files that their writers mean, each once; folders may give columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.config import DatasetConfig
from runner.dataset import SampleReader, chunks, columns, discover, growth, take_fingerprint
from runner.dataset.folders import folder_columns, printable
from runner.errors import DatasetError
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]

LINE = '{"id": "x", "question": "q", "answer": "a"}\n'


def config_of(path: Path | str | Sequence[Path | str], **section: Any) -> DatasetConfig:
    given = [str(item) for item in path] if isinstance(path, list | tuple) else str(path)
    return DatasetConfig.model_validate({"path": given, **section})


def names_of(path: Path | str | Sequence[Path | str], **section: Any) -> list[str]:
    return [file.name for file in discover(config_of(path, **section))]


def notes_of(path: Path | str | Sequence[Path | str]) -> list[str]:
    notes: list[str] = []
    discover(config_of(path), notes)
    return notes


def samples_of(path: Path | str | Sequence[Path | str], **section: Any) -> list[Sample]:
    config = config_of(path, **section)
    files = discover(config)
    reader = SampleReader(config, columns(files, config.optional))
    return [reader.sample(raw) for chunk in chunks(files, columns=reader.columns) for raw in chunk]


def table(*ids: str, **more: Any) -> pa.Table:
    return pa.table({"id": list(ids), "question": ["q"] * len(ids), "answer": ["a"] * len(ids), **more})


@pytest.fixture
def spark(tmp_path: Path) -> Path:
    """A folder as Spark leaves it when an earlier job has died: two files, one of them a folder."""
    root = tmp_path / "spark"
    for name in ("part-0.snappy.parquet", "_temporary/0/task/part-0.snappy.parquet", "old.parquet/part-0.parquet"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table("a", "b"), root / name)
    (root / "_SUCCESS").touch()
    (root / "old.parquet" / "_SUCCESS").touch()
    (root / "old.parquet" / ".part-0.parquet.crc").touch()
    return root


COMMITTED = ["old.parquet/part-0.parquet", "part-0.snappy.parquet"]


@pytest.mark.parametrize("pattern", ["", "/*", "/**", "/*.parquet", "/**/*.parquet", "/[!x]*"])
def test_work_that_was_not_committed_is_left_out(spark: Path, pattern: str) -> None:
    assert names_of(f"{spark}{pattern}") == COMMITTED
    (note,) = notes_of(spark)
    assert note == "dataset.path: left out, because the name begins with an underscore: _temporary/"


def test_what_a_path_names_is_read_whatever_its_name(spark: Path, write: Write) -> None:
    assert len(names_of(spark / "_temporary")) == 1
    assert len(names_of(f"{spark}/_temp*/**/*.parquet")) == 1
    assert names_of(write("lines/_a.jsonl", LINE)) == ["_a.jsonl"]
    assert names_of(spark.parent / "lines" / "_*.jsonl") == ["_a.jsonl"]
    with pytest.raises(DatasetError, match=r"only names that begin with a dot or an underscore: _a\.jsonl"):
        names_of(spark.parent / "lines")
    write("lines/b.jsonl", LINE)
    assert names_of(spark.parent / "lines" / "*") == ["b.jsonl"]
    assert "underscore: _a.jsonl" in notes_of(spark.parent / "lines")[0]


def test_a_delta_table_is_told_of(write: Write, tmp_path: Path) -> None:
    write("t/_delta_log/0.json", "{}")
    pq.write_table(table("a"), tmp_path / "t/part-0.parquet")
    assert names_of(tmp_path / "t") == ["part-0.parquet"]
    assert notes_of(tmp_path / "t")[0].startswith("dataset.path: this is a Delta table; files that it no longer uses")


@pytest.fixture
def linked(tmp_path: Path, write: Write) -> Path:
    """A folder with a subfolder, links to it, to a folder elsewhere and to itself."""
    root = tmp_path / "parts"
    write("parts/one/a.jsonl", LINE)
    write("elsewhere/b.jsonl", LINE)
    (root / "also-one").symlink_to("one")
    (root / "two").symlink_to("../elsewhere")
    (root / "loop").symlink_to("../parts")
    (tmp_path / "elsewhere" / "back").symlink_to("../parts/one")
    return root


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.jsonl", "/*", "/*/*.jsonl"])
def test_linked_folders_are_followed_once(linked: Path, pattern: str) -> None:
    assert names_of(f"{linked}{pattern}") == ["one/a.jsonl", "two/b.jsonl"]


def test_a_link_to_nothing_is_an_error(write: Write) -> None:
    folder = write("lines/a.jsonl", LINE).parent
    (folder / "b.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(DatasetError, match=r"b\.jsonl is a link to a file that does not exist"):
        names_of(folder)


def test_a_pipe_is_an_error(write: Write) -> None:
    folder = write("lines/a.jsonl", LINE).parent
    os.mkfifo(folder / "b.jsonl")
    with pytest.raises(DatasetError, match=r"b\.jsonl is not a regular file"):
        names_of(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_folder_that_may_not_be_read_is_an_error(write: Write) -> None:
    folder = write("lines/sub/a.jsonl", LINE).parent
    folder.chmod(0)
    with pytest.raises(DatasetError, match=r"lines/sub cannot be read"):
        names_of(folder.parent)
    folder.chmod(0o700)


def test_a_glob_below_a_folder_with_brackets_is_relative_to_it(write: Write) -> None:
    path = write("run[1]/x/a.jsonl", LINE)
    (file,) = discover(DatasetConfig.model_validate({"path": "x/*.jsonl"}, context={"base": path.parents[1]}))
    assert file.name == "a.jsonl"


def test_a_named_format_reads_the_lines_that_spark_calls_json(write: Write) -> None:
    folder = write("spark/part-0.json", LINE * 2).parent
    (folder / "_SUCCESS").touch()
    with pytest.raises(DatasetError, match=r"it holds one object per line; set dataset\.format: jsonl"):
        samples_of(folder)
    assert len(samples_of(folder, format="jsonl")) == len(LINE * 2) // len(LINE)
    write("spark/b.jsonl", LINE)
    assert names_of(folder, format="jsonl") == ["b.jsonl"]


def test_a_folder_without_the_named_format_says_how_to_read_what_it_has(write: Write) -> None:
    folder = write("tables/a.txt", "id\n1\n").parent
    with pytest.raises(
        DatasetError, match=r"no csv file in .*; it has a\.txt; to read others as csv, name them: (.*)"
    ) as found:
        names_of(folder, format="csv")
    advised = str(found.value).rpartition(": ")[2]
    assert names_of(advised, format="csv") == ["a.txt"]


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (("data-00000-of-00001.arrow", "dataset_info.json", "state.json"), "load_from_disk('ROOT')"),
        (("x/data-00000-of-00001.arrow", "x/dataset_info.json", "x/state.json"), "load_from_disk('ROOT/x')"),
        (
            ("dataset_dict.json", "test/data-00000-of-00001.arrow", "test/dataset_info.json", "test/state.json"),
            "load_from_disk('ROOT')['test']",
        ),
        (("dataset_info.json", "pairs-train.arrow"), "Dataset.from_file('ROOT/pairs-train.arrow')"),
    ],
)
def test_a_dataset_saved_by_hugging_face_is_named(
    write: Write, tmp_path: Path, files: Sequence[str], advice: str
) -> None:
    for name in files:
        write(f"saved/{name}", "{}")
    with pytest.raises(DatasetError, match=r"saved holds \.arrow files, as Hugging Face `save_to_disk`") as found:
        names_of(tmp_path / "saved")
    expected = advice.replace("ROOT", str(tmp_path / "saved"))
    assert str(found.value).endswith(f": datasets.{expected}.to_parquet('data.parquet')")


def test_a_run_directory_is_named(write: Write, tmp_path: Path) -> None:
    for name in ("run.json", "status.json", "lock"):
        write(f"run/{name}", "{}")
    write("run/samples.parquet", b"")
    with pytest.raises(DatasetError, match=r"is a run directory; for its samples name .*/run/samples\.parquet"):
        names_of(tmp_path / "run")


def test_several_paths_are_read_in_their_order(write: Write, tmp_path: Path) -> None:
    for name in ("b/test.jsonl", "a/test.jsonl", "a/more.jsonl"):
        write(name, f'{{"id": "{name}"}}\n')
    paths = [tmp_path / "b", tmp_path / "a" / "*.jsonl"]
    assert names_of(paths) == ["b/test.jsonl", "a/more.jsonl", "a/test.jsonl"]
    assert [sample.id for sample in samples_of(paths)] == names_of(paths)
    assert names_of([tmp_path / "b"]) == ["test.jsonl"]


def test_a_file_that_several_paths_name_is_read_once(write: Write, tmp_path: Path) -> None:
    first, second = write("a.jsonl", LINE), write("b.jsonl", LINE)
    paths = [second, tmp_path, f"{tmp_path}/*.jsonl"]
    assert names_of(paths) == ["b.jsonl", "a.jsonl"]
    assert notes_of(paths) == ["dataset.path: 3 files were found again by another path or link, and read once"]
    assert names_of([first, first]) == ["a.jsonl"]


def test_a_path_at_the_end_of_the_list_is_growth(write: Write, tmp_path: Path) -> None:
    paths = [write(name, LINE) for name in ("x/b.jsonl", "x/c.jsonl", "a.jsonl")]
    old = take_fingerprint(discover(config_of(paths[:2])))
    grown = take_fingerprint(discover(config_of(paths)), old)
    assert growth(old, grown) == "grown"
    paths[1].write_text(LINE * 2)
    assert growth(grown, take_fingerprint(discover(config_of(paths)), grown)) == "changed"


def test_several_paths_need_one_format(write: Write) -> None:
    with pytest.raises(DatasetError, match=r"holds files of several formats: csv .*, jsonl"):
        names_of([write("a.jsonl", LINE), write("b.csv", "id\n1\n")])


@pytest.mark.parametrize("path", [[], "", [""], [["a"]], {"a": 1}, 3.5j])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match="path"):
        DatasetConfig.model_validate({"path": path})


@pytest.mark.parametrize("format_", ["jsonl", "csv", "parquet"])
def test_folders_called_key_and_value_give_columns(write: Write, tmp_path: Path, format_: str) -> None:
    for lang, year in (("zh", "2024"), ("en", "2025"), ("__HIVE_DEFAULT_PARTITION__", "a%2Fb")):
        name = f"data/lang={lang}/year={year}/part.{format_}"
        if format_ == "parquet":
            (tmp_path / name).parent.mkdir(parents=True)
            pq.write_table(table("x"), tmp_path / name)
        else:
            write(name, LINE if format_ == "jsonl" else "id,question,answer\nx,q,a\n")
    keep = {"lang": "lang", "year": "year"}
    samples = samples_of(tmp_path / "data", keep=keep, fields={"model": "lang"})
    assert [(s.columns["lang"], s.columns["year"], s.columns["model"]) for s in samples] == [
        (None, "a/b", None),
        ("en", "2025", "en"),
        ("zh", "2024", "zh"),
    ]
    typed = samples_of(f"{tmp_path}/data/lang=[ez]*", keep={"year": {"column": "year", "type": "int64"}})
    assert [sample.columns["year"] for sample in typed] == [2025, 2024]
    assert [sample.id for sample in typed] == ["x", "x"]
    assert not [sample for sample in samples_of(tmp_path / "data") if sample.problem]


def test_a_column_of_the_file_wins_over_its_folder(tmp_path: Path) -> None:
    for lang, own in (("en", {"lang": ["own"]}), ("zh", {})):
        (tmp_path / f"lang={lang}").mkdir()
        pq.write_table(table("x", **own), tmp_path / f"lang={lang}" / "a.parquet")
    assert [sample.columns["lang"] for sample in samples_of(tmp_path, keep=["lang"])] == ["own", "zh"]


def test_folders_around_the_dataset_give_no_columns(write: Write) -> None:
    path = write("score=9/model=x/a.jsonl", LINE)
    for given in (path, path.parent, f"{path.parent}/*.jsonl"):
        (sample,) = samples_of(given)
        assert set(sample.record) == {"id", "question", "answer"}


def test_a_row_that_is_broken_stays_broken_in_a_folder_with_a_column(write: Write, tmp_path: Path) -> None:
    write("data/lang=en/a.jsonl", LINE + "{broken\n" + LINE)
    problems = [sample.problem for sample in samples_of(tmp_path / "data", keep=["lang"])]
    assert problems[1] is not None
    assert "broken JSON" in problems[1]
    assert problems[0] is problems[2] is None


def test_a_folder_column_that_changes_is_a_change(write: Write, tmp_path: Path) -> None:
    folder = write("data/lang=en/a.jsonl", LINE).parent
    old = take_fingerprint(discover(config_of(tmp_path / "data")))
    folder.rename(folder.with_name("lang=zh"))
    assert growth(old, take_fingerprint(discover(config_of(tmp_path / "data")), old)) == "changed"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a=1/b=x=y/c.csv", {"a": "1", "b": "x=y"}),
        ("a=/b.csv", {"a": ""}),
        ("=1/plain/b=2.csv", {}),
        ("%E4%B8%AD=%20/b.csv", {"中": " "}),
        ("a=__HIVE_DEFAULT_PARTITION__/b.csv", {"a": None}),
    ],
)
def test_names_of_folders_are_taken_apart(name: str, expected: dict[str, str | None]) -> None:
    assert folder_columns(name) == expected


@pytest.mark.parametrize("format_", ["jsonl", "json", "csv", "parquet"])
def test_file_names_that_are_not_utf8_are_read_and_shown_with_escapes(tmp_path: Path, format_: str) -> None:
    folder = os.fsencode(tmp_path) + b"/origin=\xff"
    os.mkdir(folder)  # noqa: PTH102 - a path in bytes
    for name in (b"caf\xe9", "é".encode()):
        path = folder + b"/" + name + b"." + format_.encode()
        if format_ == "parquet":
            with open(path, "wb") as file:  # noqa: PTH123
                pq.write_table(table("x"), file)
        else:
            text = {"json": f"[{LINE}]", "csv": "id,question,answer\nx,q,a\n"}.get(format_, LINE)
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(text.encode())
    names = names_of(tmp_path)
    assert names == [rf"origin=\xff/caf\xe9.{format_}", rf"origin=\xff/é.{format_}"]
    samples = samples_of(tmp_path, keep=["origin"])
    assert [(sample.id, sample.columns["origin"]) for sample in samples] == [("x", r"\xff"), ("x", r"\xff")]
    files = discover(config_of(tmp_path))
    fingerprint = take_fingerprint(files)
    assert fingerprint.rows == len(names)
    assert str(fingerprint.to_data()).encode()
    assert files[0].place == f"{tmp_path}/{names[0]}"


def test_messages_show_names_that_are_not_utf8_with_escapes(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jsonl", "wb") as file:  # noqa: PTH123
        file.write(b"no json\n")
    with pytest.raises(DatasetError, match=r"caf\\xe9\.jsonl: none of the first 1 rows") as caught:
        samples_of(tmp_path)
    assert str(caught.value).encode()
    with pytest.raises(DatasetError, match=r"it has caf\\xe9\.jsonl"):
        names_of(tmp_path, format="csv")


@pytest.mark.parametrize("text", ["plain", "中文", "caf\udce9", "\ud800", "a\udcffb\ud800"])
def test_any_path_can_be_shown(text: str) -> None:
    assert printable(text).encode()
