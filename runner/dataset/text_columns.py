"""Reads the large text columns of samples for samples.parquet, without the rest of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from runner.dataset.decode import as_text
from runner.dataset.readers import RawRow
from runner.dataset.samples import SampleReader
from runner.errors import BadRow


class TextReader:
    """Reads some fields as texts. Rows are decoded one at a time, and only these texts are kept in memory.

    Args:
        reader: maps fields to columns.
        names: the names of the fields.
    """

    def __init__(self, reader: SampleReader, names: Sequence[str]) -> None:
        self._reader = reader
        self._names = tuple(names)

    def columns(self, rows: Sequence[RawRow | None]) -> list[pa.Array]:
        """Return a column of texts for each field; null if a row is missing, cannot be used or has no such field.

        A value that is not a text is written by `as_text`; one that is unreadable is null.
        """
        columns: list[list[str | None]] = [[] for _ in self._names]
        for row in rows:
            fields = {} if row is None else self._reader.mapped(row)
            for name, column in zip(self._names, columns, strict=True):
                column.append(_text_or_none(fields.get(name)))
        return [pa.array(column, pa.string()) for column in columns]


def _text_or_none(value: Any) -> str | None:
    try:
        return as_text(value)
    except BadRow:
        return None
