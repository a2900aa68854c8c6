"""Values from the command line, read with the rules of the YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic_core import PydanticCustomError

from runner.config.fields import seconds
from runner.config.yaml_document import UnreadableError, check_depth
from runner.errors import ConfigError


def parse_duration(text: str) -> float:
    """Convert `30`, `30s`, `5m` or `6h` to seconds; raises ConfigError."""
    try:
        return seconds(text)
    except PydanticCustomError as error:
        raise ConfigError(f"{error.message()}, found {text!r}") from None


def parse_value(text: str) -> Any:
    """Parse one value as YAML; raises ConfigError."""
    try:
        check_depth(text)
        return yaml.safe_load(text)
    except UnreadableError as error:
        raise ConfigError(f"not valid YAML: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {text!r} ({str(error).splitlines()[0]})") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a small YAML file that contains one mapping; raises ConfigError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of options, found {type(data).__name__}")
    return data
