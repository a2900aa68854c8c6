"""Texts in prompts that look like placeholders of other tools, and lists of turns as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.judge import Template, find_lookalikes

KNOWN = {"answer", "gold answer", "my-id", "meta.lang", "2nd"}


def found(text: str) -> list[tuple[str, str, bool]]:
    return [tuple(item) for item in find_lookalikes(text, KNOWN.__contains__)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{{ answer }}", "answer"),
        ("{ answer }", "answer"),
        ("{answer }", "answer"),
        ("{{answer | trim}}", "answer"),
        ("{answer!r}", "answer"),
        ("{answer:>10}", "answer"),
        ("{gold answer}", "gold answer"),
        ("{my-id}", "my-id"),
        ("{{ meta.lang }}", "meta.lang"),
        ("{{{ answer }}}", "answer"),
    ],
)
def test_what_is_meant_as_a_placeholder(text: str, name: str) -> None:
    assert found(f"Rate {text} and {text}.") == [(text, name, False)]


@pytest.mark.parametrize("text", ["{{answer}}", "{{{answer}}}", "{{meta.lang}}"])
def test_braces_around_a_placeholder(text: str) -> None:
    ((whole, name, is_placeholder),) = found(f"({text})")
    assert (whole, f"{{{name}}}" in text, is_placeholder) == (text, True, True)


@pytest.mark.parametrize(
    "text",
    ["{answer}", '{"answer": 5}', "{answer: 5}", "{}", "{ }", "{{ other }}", "{1, 2}", "{ans", "\\frac{1}{2}", "{{}}",
     "{'answer'}", "{\n answer }", "{{{{answer}}}}"[:3], "{Answer: <text>}", "{answer, question}"],
)  # fmt: skip
def test_what_is_not(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "{{ answer }}",
            "`{{ answer }}` is no placeholder and is sent as it is; if it is meant as one, write `{answer}`",
        ),
        ("{{answer}}", "`{{answer}}` is sent with braces around the value; if they are not meant, write `{answer}`"),
        ("{gold answer}", "map it with dataset.fields: {gold_answer: 'gold answer'} and write `{gold_answer}`"),
        ("{2nd}", "map it with dataset.fields: {_2nd: '2nd'} and write `{_2nd}`"),
    ],
)
def test_the_advice_can_be_followed(text: str, advice: str) -> None:
    (item,) = find_lookalikes(text, KNOWN.__contains__)
    assert item.described.endswith(advice)
    assert Template(advice[advice.rindex("{") : -1]).names


@given(st.text(st.sampled_from("{} answer|!:\n\"'")))
def test_no_placeholder_alone_is_a_lookalike(text: str) -> None:
    for whole, name, is_placeholder in found(text):
        assert name in KNOWN
        assert whole in text
        assert is_placeholder == (Template(whole).names == (name,))


TURNS = "User: Hi\n\nAssistant: Yo"


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        ([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}], TURNS),
        ([{"from": "Human", "value": "Hi", "weight": 0}, {"from": "ChatGPT", "value": "Yo"}], TURNS),
        ([{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Yo"}], TURNS),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}], TURNS),
        ([{"from": "system", "value": None}, {"from": "observation", "value": {"a": 1}}],
         'System: \n\nObservation: {"a":1}'),
        ([{"role": "human", "content": "Hi"}], "Human: Hi"),
        ([{"from": "human", "value": "Hi"}, {"role": "user", "content": "x"}],
         '[{"from":"human","value":"Hi"},{"role":"user","content":"x"}]'),
        ([{"from": "Rome", "to": "Oslo"}], '[{"from":"Rome","to":"Oslo"}]'),
        ([{"from": 1, "value": 2}], '[{"from":1,"value":2}]'),
    ],
)  # fmt: skip
def test_lists_of_turns(turns: Any, text: str) -> None:
    assert Template("{v}").render(lambda _: turns) == text
