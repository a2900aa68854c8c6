"""Fixtures that write small datasets and read them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner.config import DatasetConfig
from runner.dataset import LabelKind, SampleReader, chunks, columns, discover
from runner.types import Sample


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Returns a function that writes a file below `tmp_path`; `.gz` and `.zst` names are compressed."""

    def write_file(name: str, content: bytes | str) -> Path:
        data = content.encode() if isinstance(content, str) else content
        if name.endswith(".gz"):
            data = gzip.compress(data)
        elif name.endswith(".zst"):
            data = pa.compress(data, codec="zstd", asbytes=True)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write_file


@pytest.fixture
def read() -> Callable[..., list[Sample]]:
    """Returns a function that reads all samples of a path; keyword arguments are keys of the dataset section."""

    def read_samples(path: Path | str, *, label_kind: LabelKind = "score", **section: Any) -> list[Sample]:
        config = DatasetConfig.model_validate({"path": str(path), **section})
        files = discover(config)
        reader = SampleReader(config, columns(files), label_kind=label_kind)
        return [reader.sample(raw) for chunk in chunks(files, **reader.reading) for raw in chunk]

    return read_samples
