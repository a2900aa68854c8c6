"""Custom messages get a verdict in the form that their template asks for."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = pytest.mark.anyio

TWO = (
    "[The Start of Assistant A's Answer]\n{}\n[The End of Assistant A's Answer]\n\n"
    "[The Start of Assistant B's Answer]\n{}\n[The End of Assistant B's Answer]"
)


@pytest.mark.parametrize(
    ("instruction", "pattern"),
    [
        ("Write [[A]], [[B]] or [[C]] for a tie.", r"\[\[[ABC]\]\]$"),
        ("One of [[A>>B]], [[A>B]], [[A=B]], [[B>A]], [[B>>A]].", r"\[\[(A>>?B|A=B|B>>?A)\]\]$"),
        ('Give a rating from 1 to 10 like this: "Rating: [[5]]".', r"Rating: \[\[([1-9]|10)\]\]$"),
        ("On a scale of 1-5, end with [[rating]].", r"Rating: \[\[[1-5]\]\]$"),
        ("Feedback, then [RESULT] and a number from 1 to 5.", r"\[RESULT\] [1-5]$"),
        ('Feedback, then [RESULT] and "A" or "B".', r"\[RESULT\] [AB]$"),
        ("Say Output (a) or Output (b).", r"^Output \([ab]\)$"),
        ("Conclude: So, the final decision is Response 1 / Response 2 / Tie.", r"decision is (Response [12]|Tie)$"),
        ("First a line with only two values, the scores.", r"^(\d+) (\d+)\n"),
        ("Write 1, 2 or Tie, then ### Reason: why", r"^(1|2|Tie)\n"),
        ("在末尾给出字典 {'事实正确性': 9, '综合得分': 7}", r"\{'综合得分': ([1-9]|10)\}$"),
        ("Judge this answer with 1 to 5 points.", r"would give this answer [1-5] points\."),
    ],
)
async def test_the_form_follows_the_prompt(emulate, bodies, instruction, pattern):
    async with emulate() as caller:
        for system, user in ((instruction, TWO.format("yes", "no")), (None, f"{instruction}\n{TWO.format('a', 'b')}")):
            text = (await caller.chat(bodies.custom(user, system))).text
            assert re.search(pattern, text), text


async def test_a_template_s_verdict_follows_the_answers_when_they_are_swapped(emulate, bodies):
    mirrored = {"A": "B", "B": "A", "C": "C"}
    async with emulate() as caller:
        for number in range(12):
            one, other = f"first {number}" * (1 + number % 4), f"second {number * 7}"
            letters = [
                (await caller.chat(bodies.custom(TWO.format(*pair), "Use [[A]], [[B]] or [[C]]."))).text[-3]
                for pair in ((one, other), (other, one))
            ]
            assert letters[1] == mirrored[letters[0]]


async def test_a_json_example_is_filled(emulate, bodies):
    system = 'Answer with {"reason": "...", "scores": {"accuracy": 4, "style": 3}, "overall": 7, "winner": "A"} only.'
    async with emulate() as caller:
        filled = json.loads((await caller.chat(bodies.custom(TWO.format("yes", "no way"), system))).text)
    assert list(filled) == ["reason", "scores", "overall", "winner"]
    assert isinstance(filled["reason"], str)
    assert set(filled["scores"]) == {"accuracy", "style"}
    assert all(1 <= score <= 10 for score in (*filled["scores"].values(), filled["overall"]))
    assert filled["winner"] in ("A", "B")


async def test_a_json_example_with_placeholders_is_filled_by_its_keys(emulate, bodies):
    system = 'Return {"explanation": <why>, "score": <1-5>, "verdict": "A or B"}.'
    async with emulate() as caller:
        filled = json.loads((await caller.chat(bodies.custom(TWO.format("yes", "no way"), system))).text)
    assert list(filled) == ["explanation", "score", "verdict"]
    assert 1 <= filled["score"] <= 5
    assert filled["verdict"] in ("A", "B")
