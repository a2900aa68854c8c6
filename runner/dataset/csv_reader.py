"""Reads CSV and TSV. No quote swallows a row: one that is not closed, or closed wrongly, is an error or a bad row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, BinaryIO

from runner.dataset.content import describe_undecodable
from runner.dataset.data_file import BUFFER_BYTES, DataFile, open_bytes
from runner.dataset.decode import Broken
from runner.dataset.readers import NextWanted, RawRow, Reader
from runner.errors import DatasetError

_MAX_CELL_CHARACTERS = 64_000_000
_OTHER_DELIMITERS = ";\t|"
_WORD = re.compile(r"\w+")

# GB 18030 contains both, and reads the characters that newer tools write into them.
_CODECS = {"gbk": "gb18030", "gb2312": "gb18030"}

_TOO_LONG = f"more than {_MAX_CELL_CHARACTERS:,} characters"
_IF_PLAIN = "if quotes are plain text in this file, set dataset.csv: {quote: null}"
_DOUBLED = "a quote inside a quoted cell must be doubled"

Record = tuple[int, list[str] | Broken]
"""The line on which a record begins, and its cells."""


def csv_records(file: DataFile, raw: BinaryIO | None = None) -> Generator[Record]:
    """Yield each record with the line on which it begins, the header first; blank lines are skipped.

    Bytes that are not in the file's encoding become lone surrogates, so that one bad cell makes one bad row.

    Raises:
        DatasetError: a quote is not closed, or it is not certain where records end.
    """
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    encoding = _CODECS.get(file.csv.encoding, file.csv.encoding)
    stream = open_bytes(file, raw)
    with io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="") as text:
        yield from _Records(file, text).read()


def csv_header(file: DataFile, records: Iterator[Record]) -> list[str]:
    """Read the header from the records; an empty file has no columns.

    Raises:
        DatasetError: two columns have the same name, or the header cannot be read.
    """
    line, header = next(records, (0, []))
    if isinstance(header, Broken):
        raise DatasetError(f"{file.place}:{line}: the header has {header.reason}")
    if (undecodable := _undecodable(file, header)) is not None:
        raise DatasetError(f"{file.place}:{line}: the header is {undecodable}")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise DatasetError(f"{file.place}: the header names {sorted(twice)} more than once")
    return header


def read_csv(file: DataFile, start: int, end: int, next_wanted: NextWanted) -> Reader:
    """Read CSV or TSV with a header; a row with another number of cells is broken."""
    ordinal, wanted = start, next_wanted(start)
    with closing(csv_records(file)) as records:
        header = csv_header(file, records)
        while wanted < end:  # what follows the last wanted row is not read: it may still be written
            record = next(records, None)
            if record is None:
                break
            if ordinal == wanted:
                line, cells = record
                size = 0 if isinstance(cells, Broken) else sum(map(len, cells))
                yield RawRow(ordinal, file.name, line, _csv_row(file, header, cells), size)
                wanted = next_wanted(ordinal + 1)
            ordinal += 1
    return ordinal


def _csv_row(file: DataFile, header: list[str], cells: list[str] | Broken) -> dict[str, str] | Broken:
    if isinstance(cells, Broken):
        return cells
    if len(cells) != len(header):
        return Broken(f"{len(cells)} cells where the header has {len(header)}")
    if (undecodable := _undecodable(file, cells)) is not None:
        return Broken(undecodable)
    return dict(zip(header, cells, strict=True))


def _undecodable(file: DataFile, cells: list[str]) -> str | None:
    joined = "".join(cells)
    try:
        joined.encode()
    except UnicodeEncodeError:
        data = joined.encode("utf-8", "surrogateescape") if file.csv.encoding == "utf-8" else b""
        return describe_undecodable(data, file.format, file.csv.encoding)
    return None


def _is_limit(error: csv.Error) -> bool:
    return "field limit" in str(error)


class _Records:
    """The records of one file, and its lines from the beginning of the record that is being read.

    Python's reader is strict here: it raises an error for text after a closing quote, and for a quote that is open at
    the end of the file.
    """

    def __init__(self, file: DataFile, text: io.TextIOWrapper) -> None:
        self._file = file
        self._text = text
        self._first = text.readline().removeprefix("\ufeff")
        self._quote = file.csv.quote
        self._delimiter = _delimiter(file, self._first)
        self._width = 0  # the number of the header's cells, once it was read
        self._number = 1  # the line on which the record begins
        self._blocks: list[tuple[int, list[str]]] = []  # each with the number of its first line
        self._ended = False

    def read(self) -> Generator[Record]:
        dialect: dict[str, Any] = {"delimiter": self._delimiter, "quotechar": self._quote}
        if self._quote is None:
            dialect["quoting"] = csv.QUOTE_NONE
        reader = csv.reader(chain.from_iterable(self._read_blocks()), strict=True, **dialect)
        while True:
            try:
                for cells in reader:
                    last = reader.line_num
                    if cells:
                        if last > self._number and self._width > 1:
                            self._check_lines(last)
                        self._width = self._width or len(cells)
                        yield self._number, cells
                    self._number = last + 1
                return
            except csv.Error as error:
                last = reader.line_num
                yield self._number, self._cells_of_bad_line(last, error)
                self._number = last + 1

    def _read_blocks(self) -> Iterator[list[str]]:
        number, lines = 1, [self._first]
        while lines and lines[0]:
            self._blocks = [(first, block) for first, block in self._blocks if first + len(block) > self._number]
            self._blocks.append((number, lines))
            yield lines
            number += len(lines)
            lines = self._text.readlines(BUFFER_BYTES)
        self._ended = True

    def _lines(self, last: int) -> list[str]:
        """Return the lines of the record, up to line `last`."""
        lines = []
        for first, block in self._blocks:
            lines += block[max(self._number - first, 0) : max(last + 1 - first, 0)]
        return lines

    def _cells_of_bad_line(self, last: int, error: csv.Error) -> list[str] | Broken:
        """Return the cells of a line with text after a closing quote if only one reading is possible.

        Args:
            last: the last line of the record.
            error: what Python's reader says.

        Raises:
            DatasetError: it is not certain where the record ends.
        """
        where = f"{self._file.place}:{self._number}"
        if self._ended:
            raise DatasetError(f"{where}: a quoted cell is never closed; is the file cut off? {_IF_PLAIN}")
        if last > self._number:
            found = _TOO_LONG if _is_limit(error) else "text after a quote"
            raise DatasetError(
                f"{where}: a quoted cell goes on to line {last}, where it has {found}; {_DOUBLED}; {_IF_PLAIN}"
            )
        if _is_limit(error):
            return Broken(f"a cell with {_TOO_LONG}")
        cells = None if self._quote is None else _cells(self._lines(last)[0], self._delimiter, self._quote)
        if cells is not None and len(cells) == self._width:
            return cells
        return Broken(f"text after the closing quote of a cell; {_DOUBLED}; {_IF_PLAIN}")

    def _check_lines(self, last: int) -> None:
        """Require that a cell over several lines is one, and not a stray quote that swallows the rows up to the next.

        Raises:
            DatasetError: each of its lines looks like a row.
        """
        if self._file.csv.trusts_quotes:
            return
        heads = []
        for line in self._lines(last):
            if line.isspace():
                continue
            if line.count(self._delimiter) != self._width - 1:
                return
            heads.append(_shape(line.partition(self._delimiter)[0], self._delimiter))
        if all(heads) and len(set(heads)) == 1:
            raise DatasetError(
                f"{self._file.place}:{self._number}: a quoted cell goes on to line {last}, and each line looks like "
                f"a row of its own; {_IF_PLAIN}; if it is one cell, name the quote: {{quote: '\"'}}"
            )


def _delimiter(file: DataFile, first_line: str) -> str:
    """Return the delimiter; `auto` looks at the header."""
    if file.csv.delimiter != "auto":
        return file.csv.delimiter
    if file.format == "tsv":
        return "\t"
    quote = None if file.csv.quote is None else re.escape(file.csv.quote)
    plain = first_line if quote is None else re.sub(f"{quote}.*?{quote}", "", first_line)
    likeliest = max(_OTHER_DELIMITERS, key=plain.count)
    return "," if "," in plain or likeliest not in plain else likeliest


def _cells(line: str, delimiter: str, quote: str) -> list[str] | None:
    """Split one line whose quotes are not as they should be; None if it can be read in several ways.

    A cell that begins with a quote and ends without one, such as `"Yes," he said`, is plain text if its quotes are in
    pairs. Blanks after a closing quote are dropped.
    """
    cells = []
    for piece in line.rstrip("\r\n").split(delimiter):
        closed = piece.rstrip(" ")
        inner = closed[1:-1]
        if not piece.startswith(quote):
            cells.append(piece)
        elif len(closed) > 1 and closed.endswith(quote) and quote not in inner.replace(quote * 2, ""):
            cells.append(inner.replace(quote * 2, quote))
        elif closed.endswith(quote) or piece.count(quote) % 2:
            return None
        else:
            cells.append(piece)
    return cells


def _shape(text: str, delimiter: str) -> str:
    """Return what the first cells of rows have in common: `d-a` for `17-b`.

    Tabs are rare in texts: between them, any two cells that are not empty count as alike.
    """
    if delimiter == "\t" or not text.strip():
        return "x" if text.strip() else ""
    return _WORD.sub(lambda word: "d" if any(map(str.isdigit, word[0])) else "a", text)
