from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runner.config import RunConfig, load_config
from runner.errors import ConfigError

Load = Callable[..., RunConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that writes a text as `judge.yaml` and loads it, by default with an empty environment."""

    def read(text: str, *overrides: str, environ: Mapping[str, str] | None = None) -> RunConfig:
        path = tmp_path / "judge.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides, environ=environ or {})

    return read


@pytest.fixture
def load_error(load: Load, tmp_path: Path) -> Callable[..., str]:
    """Return a function that loads a wrong text and returns the error message, without the folder's name."""

    def read(text: str, *overrides: str, environ: Mapping[str, str] | None = None) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides, environ=environ)
        assert caught.value.__cause__ is None, "a cause would show the input in the traceback"
        return str(caught.value).replace(f"{tmp_path}/", "")

    return read
