"""Paths into nested values: `a.b` is a key of an object, `a.0` and `a.-1` an element of a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import MISSING, has_position, list_problem, splits, value_at

KEYS = st.one_of(
    st.sampled_from(["a", "b", "0", "-1", "value"]), st.text(st.characters(exclude_characters="."), min_size=1)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
PATHS = st.lists(st.sampled_from(["a", "b", "0", "1", "-1", "-9", "value", ""]), min_size=1, max_size=4).map(".".join)


def every_path(value: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each path below a value with what is there, the elements of lists also counted from the end."""
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = [(str(at), value[at]) for at in range(-len(value), len(value))]
    else:
        return
    for part, found in inner:
        yield f"{before}{part}", found
        yield from every_path(found, f"{before}{part}.")


@given(VALUES)
def test_every_path_leads_to_its_value(value: Any) -> None:
    for path, found in every_path(value):
        assert value_at(value, path) is found
        assert list_problem(value, path) is None


@given(VALUES, PATHS)
def test_any_path_leads_somewhere_or_nowhere(value: Any, path: str) -> None:
    known = dict(every_path(value))
    assert value_at(value, path) is known.get(path, MISSING)
    problem = list_problem(value, path)
    assert problem is None or (path not in known and problem.count("`") % 2 == 0)


@given(st.lists(st.integers(), max_size=4), st.integers(-6, 6))
def test_a_position_outside_a_list_has_a_reason(items: list[int], at: int) -> None:
    is_inside = -len(items) <= at < len(items)
    assert (value_at({"x": items}, f"x.{at}") is MISSING) is not is_inside
    assert (list_problem({"x": items}, f"x.{at}") is None) is is_inside


@given(PATHS)
def test_a_path_splits_at_each_dot(path: str) -> None:
    pairs = list(splits(path))
    assert pairs[0] == (path, "")
    assert all(f"{head}.{rest}" == path for head, rest in pairs[1:])
    assert [len(head) for head, _ in pairs] == sorted((len(head) for head, _ in pairs), reverse=True)


def test_a_longer_key_wins() -> None:
    record = {"a.b": [1, 2], "a": {"b": [3], "c": 4}}
    assert value_at(record, "a.b.-1") == 2
    assert value_at(record, "a.c") == 4
    assert value_at({"a.b": {}, "a": {"b": {"c": 5}}}, "a.b.c") == 5


def test_a_digit_is_a_key_of_an_object_and_a_position_in_a_list() -> None:
    assert value_at({"x": {"0": "key"}}, "x.0") == "key"
    assert value_at({"x": ["element"]}, "x.0") == "element"
    assert has_position("x.-1")
    assert not has_position("x.1a")


@pytest.mark.parametrize(
    ("record", "path", "problem"),
    [
        ({"x": []}, "x.0", "there is no `x.0`: the list has 0 elements"),
        ({"x": [{"y": [1]}]}, "x.0.y.-2", "there is no `x.0.y.-2`: the list has 1 element"),
        ({"x": [{"y": 1}]}, "x.y", "`x` is a list; expected the position of an element, such as `x.0.y`"),
        ({"x": "[1]"}, "x.0", "there is no `x.0`: `x` is a text, and only a list has elements"),
        ({"x": 3}, "x.0", "there is no `x.0`: `x` is no list, and only a list has elements"),
        ({"x": None}, "x.0", None),
        ({}, "x.0", None),
        ({"x": [{}]}, "x.0.y", None),
        ({"x": [None]}, "x.0.y", None),
    ],
)
def test_the_reason_names_the_list(record: dict[str, Any], path: str, problem: str | None) -> None:
    assert value_at(record, path) is MISSING
    assert list_problem(record, path) == problem
