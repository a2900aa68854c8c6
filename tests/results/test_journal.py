"""The journal: complete rows are read back, and a torn line costs only its own row."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_rows import stored_row

from runner.results import encode_row, read_segment, segment_paths
from runner.results.journal import Segment, decode_row, read_at, segment_path

REAL_WRITE = os.write


def write_texts(path: Path, texts: list[str]) -> list[int]:
    """Write one row for each text; returns the offsets of the lines."""
    segment = Segment(path)
    offsets = [segment.append(stored_row(number, text)) for number, text in enumerate(texts)]
    segment.close()
    return offsets


def texts_of(path: Path) -> list[str]:
    return [row["response"] for _, row in read_segment(path)]


def test_rows_are_read_with_the_offsets_of_their_lines(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 7)
    offsets = write_texts(path, ["a", "two\nlines", "汉字\u2028"])
    assert [offset for offset, _ in read_segment(path)] == offsets
    assert [read_at(path, offset)["response"] for offset in offsets] == ["a", "two\nlines", "汉字\u2028"]
    with pytest.raises(OSError, match="no complete row at byte 1"):
        read_at(path, 1)


def test_segments_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("segment-100000.jsonl", "segment-00002.jsonl", "segment-3.jsonl", "segment-00001.jsonl.bak"):
        (tmp_path / name).write_bytes(b"")
    assert list(segment_paths(tmp_path)) == [2, 100000]


def test_an_existing_segment_is_never_appended_to(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 0)
    write_texts(path, ["a"])
    with pytest.raises(FileExistsError):
        Segment(path)


def test_a_torn_last_line_leaves_the_rows_before_it(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 0)
    start = write_texts(path, ["a", "b", "c"])[-1]
    whole = path.read_bytes()
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert texts_of(path) == ["a", "b"]


@pytest.mark.parametrize("tail", [bytes(1), bytes(4096), bytes(3) + b"\n", b"\xff\xfe\n", b"[]\n", b"{}\n", b"\n"])
def test_lines_that_are_not_rows_are_skipped(tmp_path: Path, tail: bytes) -> None:
    path = segment_path(tmp_path, 0)
    write_texts(path, ["a", "b"])
    path.write_bytes(path.read_bytes() + tail)
    assert texts_of(path) == ["a", "b"]


class FullDisk:
    """Replaces `os.write` by that of a disk with `room` free bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, handle: int, line: bytes) -> int:
        part = line[: self.room]
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(part)
        return REAL_WRITE(handle, part)


@pytest.mark.parametrize("room", [0, 1, 200])
def test_a_row_that_does_not_fit_is_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    path = segment_path(tmp_path, 0)
    segment = Segment(path)
    segment.append(stored_row(0, "a"))
    disk = FullDisk(room)
    monkeypatch.setattr(os, "write", disk.write)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            segment.append(stored_row(1, "b"))
        disk.room = room
    disk.room = 10_000
    offset = segment.append(stored_row(2, "c"))
    segment.close()
    assert texts_of(path) == ["a", "c"]
    assert read_at(path, offset)["response"] == "c"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda handle, line: REAL_WRITE(handle, line[:17]))
    path = segment_path(tmp_path, 0)
    write_texts(path, ["a", "b"])
    assert texts_of(path) == ["a", "b"]


def test_nothing_is_written_after_a_torn_line_that_cannot_be_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row on the same line could not be read."""

    def refuse(handle: int, size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = segment_path(tmp_path, 0)
    segment = Segment(path)
    segment.append(stored_row(0, "a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", FullDisk(10).write)
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="No space"):
            segment.append(stored_row(1, "b"))
    with pytest.raises(OSError, match="could not be truncated"):
        segment.append(stored_row(2, "c"))
    segment.close()
    assert texts_of(path) == ["a"]


def test_the_first_sync_also_syncs_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real: Callable[[int], None] = os.fsync

    def note(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", note)
    segment = Segment(segment_path(tmp_path, 0))
    segment.sync()
    for number in range(2):
        segment.append(stored_row(number))
        segment.sync()
        segment.sync()
    segment.close()
    segment.close()
    assert synced == ["segment-00000.jsonl", tmp_path.name, "segment-00000.jsonl"]


texts = st.text(st.characters(categories=("L", "N", "Cs", "Cc", "So")), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | texts | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(value=values)
def test_any_row_is_read_back_as_it_was_encoded(value: Any) -> None:
    """Lone surrogates at any depth are replaced by U+FFFD, in the given row too."""
    row = {"custom_id": "0-j-o-0", "kept": value}
    line = encode_row(row) + b"\n"
    assert line.count(b"\n") == 1
    assert decode_row(line) == msgspec.to_builtins(row)


def test_a_lone_surrogate_in_a_dimension_name_is_replaced() -> None:
    row = stored_row(dimensions=[{"name": "a\ud800", "answer": None, "score": 1.0}])
    line = encode_row(row) + b"\n"
    assert row["dimensions"][0]["name"] == "a\ufffd"
    assert decode_row(line) is not None
