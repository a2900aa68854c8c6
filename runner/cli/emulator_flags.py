"""Options of the emulator as flags of a command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runner.config import parse_value
from runner.errors import UsageError


def put_flags(words: Iterable[str], options: dict[str, Any]) -> None:
    """Put `--faults.500 0.03` and `--latency={median: 1}` into a mapping of options; raises UsageError."""
    queue = iter(words)
    for word in queue:
        if not word.startswith("--"):
            raise UsageError(f"emulate: unexpected {word!r}; options are given as --seed 7 or --faults.500 0.03")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = next(queue, "")
            if not value:
                raise UsageError(f"emulate: {word} needs a value")
        _put(options, name.replace("-", "_").split("."), parse_value(value))


def _put(options: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = options.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"emulate: --{'.'.join(keys)}: {key} is given as a value already")
        options = inner
    options[keys[-1]] = value
