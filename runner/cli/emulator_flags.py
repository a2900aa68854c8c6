"""Convert flags of `judge-runner emulate` to options of the emulator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runner.config import parse_value
from runner.errors import UsageError


def apply_flags(arguments: Iterable[str], options: dict[str, Any]) -> None:
    """Set options from flags such as `--faults.500 0.03` and `--latency={median: 1}`.

    Args:
        arguments: the arguments of the command.
        options: a mapping of options, which is changed.

    Raises:
        UsageError: an argument is not a flag, has no value, or contradicts another.
    """
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("--"):
            raise UsageError(f"emulate: unexpected {argument!r}; write options as --seed 7 or --faults.500 0.03")
        name, equals, value = argument[2:].partition("=")
        if not equals:
            value = next(remaining, "")
            if not value:
                raise UsageError(f"emulate: {argument} needs a value")
        _set_option(options, name.replace("-", "_").split("."), parse_value(value))


def _set_option(options: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = options.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"emulate: --{'.'.join(keys)}: {key} already has a single value")
        options = inner
    options[keys[-1]] = value
