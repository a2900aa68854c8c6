"""What the configuration can already say and this version does not do yet; removing a line here enables it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from runner.config.models import RunConfig
from runner.config.problems import KeyPath, Problem


class UnsupportedFeature(NamedTuple):
    """A key (`*` stands for each of a list), whether its value asks for too much, and what is asked for."""

    key: str
    asks: Callable[[Any], bool]
    what: str


def _given(value: Any) -> bool:
    return value is not None


GATES = (
    UnsupportedFeature("dataset.path", lambda path: path.startswith("s3://"), "a dataset at s3://"),
    UnsupportedFeature("monitor.listen", _given, "a live page"),
    UnsupportedFeature("cluster", _given, "a run on many machines"),
)
"""Every feature that is not there yet."""


def unavailable(config: RunConfig, gates: tuple[UnsupportedFeature, ...] = GATES) -> Iterator[Problem]:
    """Find what the configuration asks for and this version cannot do: it is refused, never ignored."""
    for gate in gates:
        for path, value in _values(config, tuple(gate.key.split(".")), ()):
            if gate.asks(value):
                yield Problem(path, f"{gate.what} is not available in this version")


def _values(value: Any, keys: tuple[str, ...], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if not keys:
        yield path, value
    elif keys[0] == "*":
        for index, item in enumerate(value):
            yield from _values(item, keys[1:], (*path, index))
    else:
        yield from _values(getattr(value, keys[0]), keys[1:], (*path, keys[0]))
