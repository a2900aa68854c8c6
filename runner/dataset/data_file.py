"""One file of a dataset, and how its bytes are opened."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from runner.config import CsvConfig
from runner.dataset.content import SNIFFED_BYTES, find_wrong_content
from runner.dataset.folders import folder_columns, printable
from runner.dataset.hub import HubFile
from runner.errors import DatasetError
from runner.values import inner_types

BUFFER_BYTES = 1 << 18
_NO_OPTIONS = CsvConfig()


class Stamp(msgspec.Struct, frozen=True):
    """What shows that a file is unchanged without reading it: its size, modification time and version."""

    size: int
    mtime_ns: int = 0
    version: str | None = None


class DataFile(msgspec.Struct, frozen=True):
    """One file of the dataset.

    Attributes:
        path: where it is, on the disk or at the Hub.
        name: its path relative to the dataset's root, with `/`; messages and fingerprints use it.
        format: `jsonl`, `json`, `csv`, `tsv` or `parquet`.
        compression: `gzip`, `zstd` or None.
        records: json: the key under which the rows are; None: the file is a list of rows.
        csv: csv and tsv: how the file is written.
    """

    path: Path | HubFile
    name: str
    format: str
    compression: str | None = None
    records: str | None = None
    csv: CsvConfig = _NO_OPTIONS

    @property
    def place(self) -> str:
        """The whole path for messages; a byte that is not UTF-8 is shown as an escape."""
        return printable(str(self.path))

    @property
    def reading(self) -> str:
        """How its rows are found: the format, with the options that are not the defaults."""
        if self.format == "json":
            options = {} if self.records is None else {"records": self.records}
        elif self.format in ("csv", "tsv"):
            options = {key: value for key, value in self.csv if value != getattr(_NO_OPTIONS, key)}
        else:
            options = {}
        return " ".join([self.format, *(f"{key}={value!r}" for key, value in options.items())])

    @property
    def encoding(self) -> str:
        """The encoding of its text."""
        return self.csv.encoding if self.format in ("csv", "tsv") else "utf-8"

    def folder_columns(self) -> dict[str, str | None]:
        """Return the columns that its rows get from folders called `key=value`."""
        return folder_columns(self.name)

    def stamp(self) -> Stamp:
        """Return its stamp without reading it; only a file at the Hub has a version."""
        if isinstance(self.path, HubFile):
            return Stamp(self.path.size, version=self.path.version)
        stat = self.path.stat()
        return Stamp(stat.st_size, stat.st_mtime_ns)

    def raw(self) -> BinaryIO:
        """Open its own bytes, unbuffered."""
        if isinstance(self.path, HubFile):
            return self.path.open()
        return cast("BinaryIO", self.path.open("rb", buffering=0))

    @contextmanager
    def parquet(self, **options: Any) -> Iterator[Any]:
        """Open it as a `pq.ParquetFile` with these options.

        Raises:
            DatasetError: its first bytes show that it is something else.
        """
        with ExitStack() as stack:
            source: Any = self.path
            if isinstance(self.path, HubFile):
                source = stack.enter_context(self.path.open(anywhere=True))
            elif printable(str(self.path)) != str(self.path):  # Arrow opens only paths in UTF-8
                source = stack.enter_context(self.path.open("rb"))
            try:
                table = stack.enter_context(pq.ParquetFile(source, **options))
                if (unit := _int96_unit(table)) is not None:
                    again = pq.ParquetFile(source, coerce_int96_timestamp_unit=unit, **options)
                    table = stack.enter_context(again)
            except pa.ArrowInvalid:
                self._check_content()
                raise
            yield table

    def _check_content(self) -> None:
        with cast("Any", self.raw()) as raw:
            problem = find_wrong_content(raw.read(SNIFFED_BYTES) or b"", self.format)
        if problem is not None:
            raise DatasetError(f"{self.place}: {problem}")


def _int96_unit(table: Any) -> str | None:
    """Return the unit in which INT96 times are read; None if the file has none, or pyarrow's own unit is right.

    pyarrow reads nanoseconds, and beyond the year 2262 their number overflows without a word. Spark and its like write
    microseconds; a file of pyarrow says which of its columns are nanoseconds.
    """
    if all(table.schema.column(index).physical_type != "INT96" for index in range(len(table.schema))):
        return None
    text = (table.metadata.metadata or {}).get(b"ARROW:schema")
    schema = None if text is None else pa.ipc.read_schema(pa.py_buffer(b64decode(text)))
    units = set[str]() if schema is None else {unit for type_ in schema.types for unit in _time_units(type_)}
    return None if units == {"ns"} else "us"


def _time_units(type_: pa.DataType) -> Iterator[str]:
    if pa.types.is_timestamp(type_):
        yield type_.unit
    for inner in inner_types(type_):
        yield from _time_units(inner)


def open_bytes(file: DataFile, raw: BinaryIO | None = None) -> BinaryIO:
    """Open a file as a buffered stream of its uncompressed bytes.

    Args:
        file: which file.
        raw: a stream of the file's own bytes to read instead of opening it; it is closed with the result.

    Raises:
        DatasetError: its first bytes show that it is something else than its format and encoding say.
    """
    source = file.raw() if raw is None else raw
    if file.compression is not None:
        source = pa.input_stream(source, compression=file.compression, buffer_size=BUFFER_BYTES)
    stream = io.BufferedReader(cast("Any", source), BUFFER_BYTES)
    try:
        problem = find_wrong_content(stream.peek(SNIFFED_BYTES)[:SNIFFED_BYTES], file.format, file.encoding)
        if problem is not None:
            raise DatasetError(f"{file.place}: {problem}")
    except BaseException:
        stream.close()
        raise
    return cast("BinaryIO", stream)
