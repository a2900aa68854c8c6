"""No quote swallows rows: each file gives all its rows, or an error that names the line."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import DatasetConfig
from runner.dataset import (
    NEVER,
    DataFile,
    DatasetFingerprint,
    RawRow,
    chunks,
    data_file,
    discover,
    growth,
    take_fingerprint,
)
from runner.dataset.decode import Broken
from runner.errors import DatasetError
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., list[Sample]]

NO_QUOTES = {"quote": None}


def files_at(path: Path, **csv_keys: Any) -> tuple[DataFile, ...]:
    return discover(DatasetConfig.model_validate({"path": str(path), "csv": csv_keys}))


def rows_of(path: Path, **csv_keys: Any) -> list[RawRow]:
    return [row for chunk in chunks(files_at(path, **csv_keys)) for row in chunk]


def values_of(path: Path, **csv_keys: Any) -> list[Any]:
    """The cells of each row, or the reason why it is bad."""
    payloads = [row.payload for row in rows_of(path, **csv_keys)]
    return [item.reason if isinstance(item, Broken) else list(item.values()) for item in payloads]


@pytest.mark.parametrize("count", [True, False])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_quote_that_is_never_closed_is_an_error_that_names_its_line(write: Write, name: str, count: bool) -> None:
    mark = "," if name == "a.csv" else "\t"
    rows = ["id,note", "1,fine", '2,"cut off', "3,fine", "4,fine"]
    path = write(name, "\n".join(rows).replace(",", mark) + "\n")
    with pytest.raises(DatasetError, match=rf"{name}:3: a quoted cell is never closed; .*quote: null"):
        take_fingerprint(files_at(path)) if count else rows_of(path)


def test_what_follows_the_last_wanted_row_is_not_read(write: Write) -> None:
    path = write("a.csv", "id,note\n1,fine\n")
    files = files_at(path)
    known = take_fingerprint(files)
    path.write_text('id,note\n1,fine\n2,"still being wr')
    assert [row.ordinal for chunk in chunks(files, known=known) for row in chunk] == [0]


def test_text_after_a_quote_on_a_later_line_is_an_error(write: Write) -> None:
    path = write("a.tsv", 'id\tanswer\n1\t"Begins here\n2\tfine\n3\tan 8" pipe\n4\tends here"\n')
    with pytest.raises(DatasetError, match=r"a\.tsv:2: a quoted cell goes on to line 4, .*must be doubled"):
        rows_of(path)
    expected = [["1", '"Begins here'], ["2", "fine"], ["3", 'an 8" pipe'], ["4", 'ends here"']]
    assert values_of(path, **NO_QUOTES) == expected
    assert take_fingerprint(files_at(path, **NO_QUOTES)).rows == len(expected)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_quote_that_swallows_whole_rows_is_an_error(write: Write, name: str) -> None:
    mark = "," if name == "a.csv" else "\t"
    rows = ["id,q,answer", 'r1,x,"begins', "r2,x,between", 'r3,x,ends"', "r4,x,fine"]
    path = write(name, "\n".join(rows).replace(",", mark))
    with pytest.raises(
        DatasetError, match=rf"{name}:2: a quoted cell goes on to line 4, and each line looks like a row"
    ):
        rows_of(path)
    assert len(rows_of(path, quote=None)) == len(rows) - 1
    merged = f"begins\nr2{mark}x{mark}between\nr3{mark}x{mark}ends"
    assert values_of(path, quote='"') == [["r1", "x", merged], ["r4", "x", "fine"]]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", 'id,answer\n1,"Sure.\nFirst, second"\n', "Sure.\nFirst, second"),
        ("a.csv", 'id,answer\n1,"1. a, b\n2. c, d"\n', "1. a, b\n2. c, d"),
        ("a.csv", 'id,answer\n1,"one, two\n\n3 and 4"\n', "one, two\n\n3 and 4"),
        ("a.tsv", 'id\tanswer\n1\t"def f():\n\treturn 1"\n', "def f():\n\treturn 1"),
        ("a.tsv", 'id\tanswer\n1\t"said ""no""\nand left"\n', 'said "no"\nand left'),
    ],
)
def test_a_text_over_several_lines_is_one_cell(write: Write, name: str, text: str, expected: str) -> None:
    assert values_of(write(name, text)) == [["1", expected]]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('"Yes," he said', '"Yes," he said'),
        ('a 5" pipe', 'a 5" pipe'),
        ('ends with"', 'ends with"'),
        ('"closed" ', "closed"),
        ('"He ""said"" it"', 'He "said" it'),
        ('""', ""),
        ('"a" and "b"', None),
        ('"He said "no" twice"', None),
        ('"a" b "c', None),
    ],
)
def test_a_stray_quote_in_one_line_is_read_in_the_only_way_or_spoils_its_row(
    write: Write, cell: str, expected: str | None
) -> None:
    first, bad, last = values_of(write("a.tsv", f"id\tanswer\n1\tx\n2\t{cell}\n3\ty\n"))
    assert (first, last) == (["1", "x"], ["3", "y"])
    if expected is None:
        assert "text after the closing quote of a cell" in bad
    else:
        assert bad == ["2", expected]


def test_a_stray_quote_beside_a_comma_never_moves_a_cell(write: Write) -> None:
    (row,) = values_of(write("a.csv", 'id,answer,note\n"Doe, Jane" x,b\n'))
    assert "text after the closing quote" in row


def test_a_broken_header_is_an_error(write: Write) -> None:
    with pytest.raises(DatasetError, match=r"a\.csv:1: the header has text after the closing quote"):
        rows_of(write("a.csv", '"id" x,"a"\n1,2\n'))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_any_delimiter_can_be_named_and_the_usual_ones_are_found(write: Write, name: str, mark: str) -> None:
    path = write(name, mark.join(["id", "question", "answer"]) + "\n" + mark.join(["1", "a b", '"x,;|"']) + "\n")
    assert values_of(path, delimiter=mark) == [["1", "a b", "x,;|"]]
    if name == "a.csv" or mark == "\t":
        assert values_of(path) == [["1", "a b", "x,;|"]]


def test_a_comma_in_a_quoted_name_is_no_delimiter(write: Write) -> None:
    assert values_of(write("a.csv", '"id";"a, b"\n1;"x, y"\n')) == [["1", "x, y"]]


def test_another_quote_can_be_named(write: Write) -> None:
    path = write("a.csv", "id,answer\n1,'it''s, \"so\"'\n")
    assert values_of(path, quote="'") == [["1", 'it\'s, "so"']]


@pytest.mark.parametrize("encoding", ["gbk", "gb2312", "gb18030", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_an_encoding_can_be_named(write: Write, encoding: str) -> None:
    path = write("a.csv", '编号,回答\n1,"水是液体,\n你好"\n'.encode(encoding))
    assert [row.payload for row in rows_of(path, encoding=encoding)] == [{"编号": "1", "回答": "水是液体,\n你好"}]
    assert take_fingerprint(files_at(path, encoding=encoding)).rows == 1


def test_bytes_that_the_encoding_does_not_have_spoil_one_row(write: Write) -> None:
    path = write("a.csv", "id,a\n1,水\n2,".encode("gbk") + b"\xff\xff\n3,x\n")
    assert values_of(path, encoding="gbk") == [["1", "水"], "not gbk", ["3", "x"]]


def test_a_named_encoding_that_is_wrong_is_an_error(write: Write) -> None:
    path = write("a.csv", "id,answer\n1,水是液体\n")
    with pytest.raises(DatasetError, match=r"a\.csv: is UTF-8, but dataset\.csv\.encoding is gbk"):
        rows_of(path, encoding="gbk")
    with pytest.raises(DatasetError, match="is UTF-8, but"):
        rows_of(path, encoding="utf-16")


@pytest.mark.parametrize(
    ("text", "more", "keys", "verdict"),
    [
        ("id;a\n1;x\n", "2;y\n", {"delimiter": ";"}, "grown"),
        ('id,a\n1,5" x\n', '2,6" y\n', NO_QUOTES, "grown"),
        ('id,a\n1,5" x\n', '2,6" y\n', {}, "changed"),  # compared request by request
        ("id,a\n1,水\n", "2,火\n", {"encoding": "gbk"}, "grown"),
        ("id,a\n1,x\n", "2,y\n", {"encoding": "utf-16-le"}, "changed"),
        ("id,a\n1,\u0a41", "\n", {"encoding": "utf-16-le"}, "changed"),
    ],
)
def test_growth_follows_the_options(write: Write, text: str, more: str, keys: dict[str, Any], verdict: str) -> None:
    encoding = keys.get("encoding", "utf-8")
    path = write("a.csv", text.encode(encoding))
    old = take_fingerprint(files_at(path, **keys))
    path.write_bytes((text + more).encode(encoding))
    new = take_fingerprint(files_at(path, **keys), old)
    assert growth(old, new) == verdict


def test_other_options_count_the_rows_of_an_unchanged_file_again(write: Write) -> None:
    path = write("a.tsv", 'id\tanswer\n1\t"a\nb"\n')
    old = take_fingerprint(files_at(path))
    new = take_fingerprint(files_at(path, quote=None), old)
    assert (old.rows, new.rows, growth(old, new)) == (1, 2, "changed")
    assert take_fingerprint(files_at(path), new).rows == 1
    assert DatasetFingerprint.from_data(new.to_data()).files == new.files


CELL = st.text(st.characters(codec="utf-8"), max_size=8)


@given(
    table=st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1)),
    delimiter=st.sampled_from([",", ";", "\t", "|", "\x01"]),
    quote=st.sampled_from(['"', "'"]),
    encoding=st.sampled_from(["utf-8", "gb18030", "utf-16", "utf-32-le"]),
    block=st.sampled_from([1, 20, 1 << 18]),
)
def test_what_the_csv_module_writes_is_read_back(
    table: list[list[str]], delimiter: str, quote: str, encoding: str, block: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quotechar=quote)
    writer.writerows([[f"c{index}" for index in range(len(table[0]))], *table])
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_file, "BUFFER_BYTES", block)
        path = Path(folder, "a.csv")
        path.write_bytes(text.getvalue().encode(encoding))
        keys = {"delimiter": delimiter, "quote": quote, "encoding": encoding}
        assert values_of(path, **keys) == table
        assert take_fingerprint(files_at(path, **keys)).rows == len(table)


LINE_CELL = st.text(st.sampled_from('ab",;" 1'), max_size=6)


@given(
    lines=st.lists(st.lists(LINE_CELL, min_size=2, max_size=2), min_size=1, max_size=8),
    name=st.sampled_from(["a.csv", "a.tsv"]),
)
def test_a_line_per_row_gives_that_many_rows_or_an_error(lines: Sequence[list[str]], name: str) -> None:
    mark = "," if name == "a.csv" else "\t"
    cells = [[cell.replace(mark, "") for cell in line] for line in lines]
    text = "".join(mark.join([str(number), *line]) + "\n" for number, line in enumerate(cells))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(mark.join(["id", "q", "a"]) + "\n" + text, encoding="utf-8")
        plain = values_of(path, quote=None)
        assert plain == [[str(number), *line] for number, line in enumerate(cells)]
        with suppress(DatasetError):
            found = values_of(path)
            assert len(found) == len(lines)
            assert [row[0] for row in found if isinstance(row, list)] == [
                str(number) for number, row in enumerate(found) if isinstance(row, list)
            ]


@given(
    text=st.text(st.sampled_from('ab",\n\r\t; 1é'), max_size=60),
    wanted=st.sets(st.integers(0, 20)),
    keys=st.sampled_from([{}, {"quote": None}, {"quote": '"'}, {"delimiter": ";"}]),
)
def test_counting_and_reading_agree(text: str, wanted: set[int], keys: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(("x,y\n" + text).encode())
        files = files_at(path, **keys)
        try:
            known = take_fingerprint(files)
        except DatasetError:
            with pytest.raises(DatasetError):
                assert not rows_of(path, **keys)  # no row, or the same problem
                raise DatasetError("there are no rows") from None
            return
        whole = rows_of(path, **keys)
        assert len(whole) == known.rows
        assert [row.ordinal for row in whole] == list(range(known.rows))

        def next_wanted(ordinal: int) -> int:
            return min((one for one in wanted if one >= ordinal), default=NEVER)

        picked = [row for chunk in chunks(files, next_wanted, known=known) for row in chunk]
        assert picked == [row for row in whole if row.ordinal in wanted]


@given(text=st.text(st.sampled_from('ab",\n\r1'), max_size=40), more=st.text(st.sampled_from('ab",\n\r1'), max_size=40))
def test_a_file_counts_as_grown_only_if_its_old_rows_stay(text: str, more: str) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(DatasetError):
        path = Path(folder, "a.csv")
        path.write_bytes(f"x,y\n{text}".encode())
        old, before = take_fingerprint(files_at(path)), rows_of(path)
        path.write_bytes(f"x,y\n{text}{more}".encode())
        os.utime(path, ns=(1, 1))
        new = take_fingerprint(files_at(path), old)
        if growth(old, new) != "changed":
            assert rows_of(path)[: len(before)] == before
