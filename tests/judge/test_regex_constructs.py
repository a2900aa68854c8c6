"""No pattern has a construct that some supported Python matches wrongly, and the check at start-up covers the rest."""

from __future__ import annotations

import importlib
import pkgutil
import re
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import runner
from runner.core import check_regex_engine, regex_check
from runner.errors import UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import sre_constants as sre
    import sre_parse

SINGLES = {sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN, sre.CATEGORY}
RARE = {sre.ATOMIC_GROUP, sre.POSSESSIVE_REPEAT}


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(runner.__path__, "runner."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def patterns_of(value: Any) -> Iterator[re.Pattern[Any]]:
    """Yield the compiled patterns in a module constant, also those in containers and bound methods."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(getattr(value, "__self__", None), re.Pattern):
        yield value.__self__
    elif isinstance(value, dict):
        for item in value.values():
            yield from patterns_of(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from patterns_of(item)


def all_patterns() -> dict[str, re.Pattern[Any]]:
    pytest.importorskip("duckdb", reason="only some packages are installed on this Python: see make test-pythons")
    return {
        f"{module.__name__}.{name}": pattern
        for module in modules()
        for name, value in vars(module).items()
        for pattern in patterns_of(value)
    }


def operations(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every operation of a parsed pattern with its argument, at every depth."""
    for item in tree:
        if isinstance(item, sre_parse.SubPattern):
            yield from operations(item)
        elif isinstance(item, tuple) and item and isinstance(item[0], type(sre.LITERAL)):
            yield item[0], item[1]
            yield from operations(item[1:])
        elif isinstance(item, tuple | list):
            yield from operations(item)


def parsed(pattern: re.Pattern[Any] | str) -> list[tuple[Any, Any]]:
    if isinstance(pattern, str):
        return list(operations(sre_parse.parse(pattern)))
    return list(operations(sre_parse.parse(pattern.pattern, pattern.flags & ~re.DEBUG)))


def repeats_a_group_possessively(pattern: re.Pattern[Any] | str) -> bool:
    return any(
        operation is sre.POSSESSIVE_REPEAT and (len(argument[2]) != 1 or argument[2][0][0] not in SINGLES)
        for operation, argument in parsed(pattern)
    )


def test_the_scan_finds_what_it_looks_for() -> None:
    assert repeats_a_group_possessively(r"a|(?:b(?:\d++(?:\.\d++)?+))")
    assert repeats_a_group_possessively(r"(?=(a)*+)")
    assert not repeats_a_group_possessively(r"[ab]{0,8}+(?>(?:\.\d++)?)\w++.?+")
    assert len([name for name in all_patterns() if name.startswith("runner.judge.verdict")]) > 20


def test_no_pattern_repeats_a_group_possessively() -> None:
    assert [name for name, pattern in all_patterns().items() if repeats_a_group_possessively(pattern)] == []


def test_the_check_has_every_rare_construct_in_use() -> None:
    used = {operation for pattern in all_patterns().values() for operation, _ in parsed(pattern)}
    checked = {operation for operation, _ in parsed(regex_check.PATTERN)}
    assert used & RARE <= checked


def test_the_check_passes_on_this_python() -> None:
    check_regex_engine()


def test_a_python_that_matches_wrongly_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex_check, "MATCHED", "* 3.")
    monkeypatch.setattr("platform.python_version", lambda: "3.11.99")
    with pytest.raises(UsageError, match=r"Python 3\.11\.99 .* wrong scores"):
        check_regex_engine()
