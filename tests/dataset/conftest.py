"""Small datasets, written as each test needs them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner.config import DatasetConfig
from runner.dataset import SampleReader, chunks, columns, discover
from runner.types import Sample


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Write a file below the test's folder, packed as its name says."""

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
    """Read all samples of a path, with the dataset section's other keys."""

    def read_samples(path: Path | str, *, pairwise: bool = False, **section: Any) -> list[Sample]:
        config = DatasetConfig.model_validate({"path": str(path), **section})
        files = discover(config)
        reader = SampleReader(config, columns(files), pairwise=pairwise)
        return [reader.sample(raw) for chunk in chunks(files, columns=reader.columns) for raw in chunk]

    return read_samples
