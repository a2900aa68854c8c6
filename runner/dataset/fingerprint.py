"""Row counts and content hashes of the files of a dataset; tells growth from change."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, BinaryIO, Literal, cast

import msgspec

from runner.dataset.csv_reader import csv_header, csv_records
from runner.dataset.data_file import BUFFER_BYTES, DataFile, Stamp
from runner.dataset.folders import folder_columns
from runner.dataset.json_reader import load_array
from runner.dataset.readers import READ_ERRORS, SeekPoint, count_lines
from runner.errors import DatasetError
from runner.run_file import Count

Growth = Literal["same", "grown", "changed"]

_APPENDABLE = ("jsonl", "csv", "tsv")
_WIDE = ("utf-16", "utf-32")
_SHA256_HEX = 64


class FileFingerprint(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one file held when it was read.

    Attributes:
        path: relative to the dataset's root.
        format: how its rows were counted: the format, with the options that are not the defaults.
        size: its bytes, as they are on disk.
        mtime_ns: when it was last modified, in nanoseconds; 0 for a file at the Hub.
        digest: SHA-256 of its bytes, hexadecimal; for Parquet at the Hub, which is not read completely, its version.
        rows: how many rows it has.
        ends_line: True if its last byte ends a line, so that appended text begins a new line.
        marks: places at which reading can start.
        version: the Hub's fingerprint of its bytes.
    """

    path: str
    format: str
    size: Count
    mtime_ns: int
    digest: str
    rows: Count
    ends_line: bool
    marks: tuple[SeekPoint, ...] = ()
    version: str | None = None

    def has(self, stamp: Stamp) -> bool:
        """Return True if a file with this stamp counts as unchanged."""
        return stamp == Stamp(self.size, self.mtime_ns, self.version)


class _Data(msgspec.Struct, frozen=True):
    rows: Count
    files: tuple[FileFingerprint, ...]


class DatasetFingerprint(msgspec.Struct, frozen=True):
    """The files of a dataset in their order.

    `extended` names the files that begin with their whole content of the previous fingerprint; `to_data` omits it.
    """

    files: tuple[FileFingerprint, ...]
    extended: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows the dataset has."""
        return sum(self.counts)

    @property
    def counts(self) -> tuple[int, ...]:
        """The rows of each file."""
        return tuple(file.rows for file in self.files)

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"rows": self.rows, "files": msgspec.to_builtins(self.files)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> DatasetFingerprint:
        """Read what `to_data` returned; raises `msgspec.ValidationError` for other data."""
        known = msgspec.convert(data, _Data)
        result = cls(known.files)
        if known.rows != result.rows:
            raise msgspec.ValidationError(f"its files have {result.rows:,} rows, not {known.rows:,} - at `$.rows`")
        return result


def take_fingerprint(files: Sequence[DataFile], previous: DatasetFingerprint | None = None) -> DatasetFingerprint:
    """Read every file once: rows, bytes and digest.

    A file with the stamp that `previous` has is not read again; one with the same bytes is not counted again.

    Raises:
        DatasetError: a file cannot be read, or there is no row at all.
    """
    known = {} if previous is None else {seen.path: seen for seen in previous.files}
    extended = []
    seen_now = []
    for file in files:
        try:
            seen, extends = _look_at(file, known.get(file.name))
        except READ_ERRORS as error:
            raise DatasetError(f"{file.place}: cannot be read as {file.format}: {error}") from error
        seen_now.append(seen)
        if extends:
            extended.append(file.name)
    result = DatasetFingerprint(tuple(seen_now), tuple(extended))
    if not result.rows:
        others = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        raise DatasetError(f"{files[0].place}{others}: there are no rows")
    return result


def growth(old: DatasetFingerprint, new: DatasetFingerprint) -> Growth:
    """Compare two fingerprints by content; `new` must have been taken with `old` as its `previous`.

    `grown` means that every old row still has its ordinal: rows were appended to the last file, or files were added
    that sort after it. A renamed file with the same bytes in the same place counts as the same.
    """
    count = len(old.files)
    if len(new.files) < count:
        return "changed"
    differing = [index for index in range(count) if not _equal(old.files[index], new.files[index])]
    if differing not in ([], [count - 1]) or (differing and new.files[count - 1].path not in new.extended):
        return "changed"
    return "grown" if differing or len(new.files) > count else "same"


def _equal(one: FileFingerprint, other: FileFingerprint) -> bool:
    """Return True if two files have the same rows: also those columns that the names of their folders give."""
    return (one.digest, one.rows, one.format, folder_columns(one.path)) == (
        other.digest,
        other.rows,
        other.format,
        folder_columns(other.path),
    )


def _look_at(file: DataFile, before: FileFingerprint | None) -> tuple[FileFingerprint, bool]:
    """Take the fingerprint of one file; the second value is True if the file only extends its earlier content."""
    stamp = file.stamp()
    if before is not None and (before.size, before.format) == (stamp.size, file.reading):
        if before.has(stamp):
            return before, False
        if stamp.version is None and before.digest == _digest(file):
            return msgspec.structs.replace(before, mtime_ns=stamp.mtime_ns, version=None), False
    if stamp.version is not None and file.format == "parquet":
        return _from_hub(file, stamp, stamp.version), False
    appendable = before is not None and before.format == file.reading and _is_appendable(file)
    raw = _Hashed(file.raw(), before.size if appendable and before is not None else -1, file.csv.quote)
    rows, marks = _count(file, cast("BinaryIO", raw))
    _check_arrived(raw, stamp)
    seen = FileFingerprint(
        path=file.name,
        format=file.reading,
        size=raw.size,
        mtime_ns=stamp.mtime_ns,
        digest=raw.digest,
        rows=rows,
        ends_line=raw.last in b"\n",
        marks=marks,
        version=stamp.version,
    )
    extends = (
        before is not None
        and raw.prefix == before.digest
        and (before.ends_line or raw.after in b"\r\n")
        and (file.format == "jsonl" or raw.quotes % 2 == 0)
    )
    return seen, extends


def _is_appendable(file: DataFile) -> bool:
    """Return True if lines can be appended to a file: its format has lines, and their end is the byte that it seems."""
    if file.compression is not None or file.format not in _APPENDABLE:
        return False
    return file.format == "jsonl" or not file.csv.encoding.startswith(_WIDE)


def _from_hub(file: DataFile, stamp: Stamp, version: str) -> FileFingerprint:
    """Take the fingerprint of a Parquet file at the Hub from what the Hub lists and from its footer."""
    return FileFingerprint(
        file.name, file.reading, stamp.size, stamp.mtime_ns, version, _footer(file), False, (), version
    )


def _check_arrived(raw: _Hashed, stamp: Stamp) -> None:
    """Require that the bytes from the Hub match its listing: the size, and the SHA-256 if there is one."""
    if stamp.version is None:
        return
    if raw.size != stamp.size or (len(stamp.version) == _SHA256_HEX and raw.digest != stamp.version):
        raise OSError(
            f"received {raw.size} bytes with SHA-256 {raw.digest}; "
            f"the Hub lists {stamp.size} of version {stamp.version}"
        )


def _footer(file: DataFile) -> int:
    with file.parquet() as table:
        return int(table.metadata.num_rows)


def _digest(file: DataFile) -> str:
    with cast("Any", file.raw()) as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def _count(file: DataFile, raw: BinaryIO) -> tuple[int, tuple[SeekPoint, ...]]:
    with raw:
        match file.format:
            case "jsonl":
                return count_lines(file, raw)
            case "json":
                return len(load_array(file, raw)), ()
            case "parquet":
                return _footer(file), ()
            case _:
                with closing(csv_records(file, raw)) as records:
                    csv_header(file, records)
                    return sum(1 for _ in records), ()


class _Hashed(io.RawIOBase):
    """Passes a file's bytes through and hashes them; closing it reads the rest, unless reading failed.

    Attributes:
        size: bytes so far.
        digest: hash of them all, once closed.
        last: the last byte.
        prefix: hash of the first `mark` bytes, once more than those were read.
        after: the byte that follows them.
        quotes: how many quotes they hold: an odd number may mean that a cell is still open.
    """

    def __init__(self, raw: BinaryIO, mark: int, quote: str | None) -> None:
        self._raw = raw
        self._mark = mark
        self._quote = None if quote is None else quote.encode()
        self._hash = hashlib.sha256()
        self._broken = False
        self.size = 0
        self.digest = ""
        self.last = b""
        self.prefix: str | None = None
        self.after = b""
        self.quotes = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def readinto(self, buffer: Any, /) -> int:
        try:
            count = cast("Any", self._raw).readinto(buffer) or 0
        except OSError:
            self._broken = True
            raise
        view = memoryview(buffer)[:count]
        head = self._mark - self.size
        if 0 <= head < count:
            self._hash.update(view[:head])
            self.prefix = self._hash.hexdigest()
            self._count_quotes(view[:head])
            self.after = bytes(view[head : head + 1])
            self._hash.update(view[head:])
        else:
            self._hash.update(view)
            if head >= count:
                self._count_quotes(view)
        self.size += count
        self.last = bytes(view[-1:]) or self.last
        return count

    def _count_quotes(self, view: memoryview) -> None:
        if self._quote is not None:
            self.quotes += bytes(view).count(self._quote)

    def close(self) -> None:
        if self.closed:
            return
        rest = bytearray(BUFFER_BYTES)
        while not self._broken and self.readinto(rest):
            pass
        self.digest = self._hash.hexdigest()
        self._raw.close()
        super().close()
