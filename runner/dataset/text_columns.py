"""Reads the large text columns of samples for samples.parquet, without the rest of their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa

from runner.dataset.decode import as_text
from runner.dataset.readers import RawRow
from runner.dataset.samples import SampleReader


class TextReader:
    """Reads some fields as texts. A JSON row is decoded for these fields only, so memory holds nothing else of it.

    Args:
        reader: maps fields to columns.
        names: the names of the fields.
    """

    def __init__(self, reader: SampleReader, names: Sequence[str]) -> None:
        self._reader = reader
        self._names = tuple(names)
        self._texts: Any = msgspec.defstruct("Texts", [(name, str | None, None) for name in self._names], gc=False)
        self._nothing = self._texts()
        self._decode = self._decoder()

    def columns(self, rows: Sequence[RawRow | None]) -> list[pa.Array]:
        """Return a column for each field; null if a row is missing, cannot be used or has no such field.

        Other values than texts are written by `as_text`.
        """
        found = [self._nothing if row is None else self._read(row) for row in rows]
        return [pa.array(list(map(attrgetter(name), found)), pa.string()) for name in self._names]

    def _read(self, row: RawRow) -> Any:
        if self._decode is not None and type(row.payload) is bytes:
            try:
                return self._decode(row.payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # the general reader below takes what the typed decoder refuses
        fields = self._reader.mapped(row)
        return self._texts(*(as_text(fields.get(name)) for name in self._names))

    def _decoder(self) -> Callable[[bytes], Any] | None:
        """Return a decoder of just these fields of a JSON row; None if a field is not a column of its own."""
        paths = self._reader.plain_columns(self._names)
        if paths is None or len(set(paths)) < len(paths):
            return None
        named = zip(self._names, paths, strict=True)
        fields = [(name, str | None, msgspec.field(name=path, default=None)) for name, path in named]
        return msgspec.json.Decoder(msgspec.defstruct("Columns", fields, gc=False)).decode
