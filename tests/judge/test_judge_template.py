"""Templates: which names are placeholders, how values are rendered, and that values are not expanded again."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import estimate_body, lower_bound
from runner.errors import BadRow
from runner.judge import Template, UnknownName, unknown_names


def test_only_braces_around_names_are_placeholders() -> None:
    template = Template('{a} {"score": 5} {} { a } {1} {{a}} {a.b} {é} {问题} {x')
    assert template.names == ("a", "a.b", "é", "问题")
    assert template.render(lambda name: f"<{name}>") == ('<a> {"score": 5} {} { a } {1} {<a>} <a.b> <é> <问题> {x')


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        ("{a}", "{a}"),
        (True, "true"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (["é", 1], '["é",1]'),
        ({"k": None}, '{"k":null}'),
        ([], "[]"),
        (datetime.date(2025, 4, 8), "2025-04-08"),
        ([{"role": "system", "content": None}, {"role": "user", "content": ["x"]}], 'System: \n\nUser: ["x"]'),
    ],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert Template("[{v}]").render({"v": value}.__getitem__) == f"[{text}]"


def test_a_value_without_json_is_a_bad_row() -> None:
    with pytest.raises(BadRow, match="object"):
        Template("{v}").render(lambda _: object())


def test_swap_matches_whole_names() -> None:
    template = Template("{answer1}{answer2.text}{answer10}").swapped("answer1", "answer2")
    assert template.names == ("answer2", "answer1.text", "answer10")


def test_unknown_names() -> None:
    assert unknown_names(["question", "meta.x", "refrence", "zzz"], {"question"}, {"meta", "reference"}) == [
        UnknownName("refrence", "reference"),
        UnknownName("zzz", None),
    ]


@given(st.text(), st.text())
def test_a_value_is_never_expanded(before: str, value: str) -> None:
    literal = before.replace("{", "(")
    assert Template(literal + "{v}{v}").render(lambda _: value) == literal + value + value


@given(st.text())
def test_every_text_renders(text: str) -> None:
    template = Template(text)
    assert template.render(lambda name: "{" + name + "}") == text


@given(st.text())
def test_token_bound_is_at_most_a_quarter_of_the_bytes(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    assert lower_bound(text) <= size / 4


@pytest.mark.parametrize(
    ("text", "low", "fair"), [("x" * 400, 100, 100), ("好" * 400, 200, 280), ("好x" * 200, 150, 190)]
)
def test_token_counts(text: str, low: int, fair: int) -> None:
    assert lower_bound(text) == low
    assert estimate_body(text.encode()) == fair
