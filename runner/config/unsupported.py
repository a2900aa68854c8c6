"""Features that the YAML can describe but this version does not have. Removing a line here enables one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from runner.config.models import RunConfig
from runner.config.problems import KeyPath, Problem


class UnsupportedFeature(NamedTuple):
    """A key (`*` matches each item of a list), a test whether its value uses the feature, and the feature's name."""

    key: str
    is_used: Callable[[Any], bool]
    name: str


def _given(value: Any) -> bool:
    return value is not None


def _is_at_s3(path: str | tuple[str, ...]) -> bool:
    return any(item.startswith("s3://") for item in ((path,) if isinstance(path, str) else path))


UNSUPPORTED_FEATURES = (
    UnsupportedFeature("dataset.path", _is_at_s3, "a dataset at s3://"),
    UnsupportedFeature("monitor.listen", _given, "a live page"),
    UnsupportedFeature("cluster", _given, "a run on many machines"),
)


def find_unsupported(
    config: RunConfig, features: tuple[UnsupportedFeature, ...] = UNSUPPORTED_FEATURES
) -> Iterator[Problem]:
    """Yield a problem for every unsupported feature that the configuration uses: it is refused, never ignored."""
    for feature in features:
        for path, value in _values(config, tuple(feature.key.split(".")), ()):
            if feature.is_used(value):
                yield Problem(path, f"{feature.name} is not available in this version")


def _values(value: Any, keys: tuple[str, ...], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if not keys:
        yield path, value
    elif keys[0] == "*":
        for index, item in enumerate(value):
            yield from _values(item, keys[1:], (*path, index))
    else:
        yield from _values(getattr(value, keys[0]), keys[1:], (*path, keys[0]))
