"""The fast path gives the agrees result as the general rules, or leaves the line to them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.lanes.batch.result_lines import _read_general, _read_usual, read_line
from runner.types import JudgeResponse

texts = st.text(st.characters(codec="utf-8"), max_size=8)
odd = st.sampled_from(
    [None, "", {}, [], 0, True, 200, 200.0, "200", -1, 2**31, 1.5, "\ud83d", "[[A]]", {"message": "x"}]
)
contents = texts | odd | st.lists(st.fixed_dictionaries({"text": texts | odd}), max_size=2)
messages = odd | st.fixed_dictionaries({}, optional={"content": contents, "refusal": texts | odd})
choices = st.lists(
    odd | st.fixed_dictionaries({}, optional={"message": messages, "finish_reason": texts | odd}), max_size=2
)
usages = odd | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), st.integers(-2, 2**31) | odd)
)
bodies = odd | st.fixed_dictionaries({}, optional={"id": texts | odd, "choices": odd | choices, "usage": usages})
wrapped = bodies | bodies.map(json.dumps)
responses = odd | st.fixed_dictionaries({}, optional={"status_code": odd | st.just(400), "body": wrapped})
lines = st.fixed_dictionaries({"custom_id": texts}, optional={"response": responses, "error": odd})
encoded = st.builds(lambda value, plain: json.dumps(value, ensure_ascii=plain), lines, st.booleans()).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)

GOOD: dict[str, Any] = {
    "custom_id": "0-judge-o-0",
    "response": {
        "status_code": 200,
        "body": {
            "id": "c-1",
            "choices": [{"message": {"content": "\u597d [[A]]"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        },
    },
    "error": None,
}
WHOLE = json.dumps(GOOD).encode()


def agrees(raw: bytes) -> bool:
    found = _read_usual(raw)
    return found is None or found == _read_general(raw, "pai")


@settings(deadline=None)
@given(encoded)
@example(json.dumps({**GOOD, "error": {}}).encode())
@example(WHOLE.replace(b"200", b"true"))
@example(WHOLE.replace(b"200", b"2e2"))
@example(WHOLE.replace(b"\\u597d", b"\\ud83d"))
@example(WHOLE[:-1] + b', "response": {"status_code": 500, "body": {"choices": []}}}')
def test_the_fast_path_agrees_with_the_general_rules(raw: bytes) -> None:
    assert agrees(raw)


@settings(deadline=None)
@given(raw=st.binary(max_size=6), cut=st.integers(0, 40), place=st.integers(0, len(WHOLE)))
def test_the_fast_path_agrees_on_damaged_lines(raw: bytes, cut: int, place: int) -> None:
    assert agrees(WHOLE[:place] + raw + WHOLE[place + cut :])


def test_a_usual_line_takes_the_fast_path() -> None:
    assert isinstance(_read_usual(WHOLE), JudgeResponse)
    assert _read_usual(WHOLE) == _read_general(WHOLE, "pai") == read_line(WHOLE)
