"""Writing files so that a reader sees the old or the new one, and a power cut leaves one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

TEMPORARY_SUFFIX = ".tmp"
"""Ending of files that are not finished; whatever carries it at start is left from a crash."""


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(temporary: Path, final: Path) -> None:
    """Give a finished, closed file its final name, durably."""
    handle = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(final)
    sync_directory(final.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically and durably."""
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    temporary.write_text(text, encoding="utf-8")
    put_in_place(temporary, path)


def write_json(path: Path, data: Mapping[str, Any], *, durable: bool = True) -> None:
    """Replace a JSON file atomically; `durable` waits for the disk."""
    raw = msgspec.json.format(msgspec.json.encode(data), indent=2)
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    temporary.write_bytes(raw + b"\n")
    if durable:
        put_in_place(temporary, path)
    else:
        temporary.replace(path)
