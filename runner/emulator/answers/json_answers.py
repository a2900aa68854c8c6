"""Answers in the form of the JSON object that a prompt shows as an example."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec

from runner.emulator.answers.scoring import Comparison, Rating, criterion_score

_object_start = re.compile(r'\{\s*"')
_key = re.compile(r'"([^"{}\n]{1,40})"\s*[:：]\s*("?)')
_winner_key = re.compile(r"winner|verdict|choice|better|prefer|胜者|更好|选择", re.IGNORECASE)
_text_key = re.compile(
    r"reason|expla|feedback|analy|comment|thought|critique|rationale|理由|原因|分析|解释|评语", re.IGNORECASE
)
_score_key = re.compile(r"scor|rating|overall|grade|points|得分|评分|分数|总分", re.IGNORECASE)
_decoder = json.JSONDecoder()
_MAX_KEY_SEARCH_CHARS = 4000
_MAX_DEPTH = 5


class _Values(NamedTuple):
    """The verdict that the values of the object express."""

    prompt: str
    comparison: Comparison
    rating: Rating
    thought: str


def fill_json(prompt: str, comparison: Comparison, rating: Rating, thought: str) -> str:
    """Write a JSON object with the keys of the prompt's example; each key's name decides its value.

    A value is the winner, a score or a text.
    """
    values = _Values(prompt, comparison, rating, thought)
    return msgspec.json.encode(_fill(_example(prompt), "", values, 0)).decode()


def _example(prompt: str) -> dict[str, Any]:
    """Return the example object, or one made of its keys if it contains placeholders and is not valid JSON."""
    found = _object_start.search(prompt)
    start = found.start() if found else 0
    try:
        example, _ = _decoder.raw_decode(prompt, start)
    except (ValueError, RecursionError):
        keys = _key.findall(prompt[start : start + _MAX_KEY_SEARCH_CHARS])
        example = {key: "" if quote else 0 for key, quote in keys}
    return example if isinstance(example, dict) and example else {"score": 0}


def _fill(example: Any, key: str, values: _Values, depth: int) -> Any:
    if isinstance(example, dict) and depth < _MAX_DEPTH:
        return {
            name: _fill(value, name, values._replace(rating=_nested_rating(values.rating, number, depth)), depth + 1)
            for number, (name, value) in enumerate(example.items())
        }
    if _winner_key.search(key):
        return _winner(example, values)
    if _text_key.search(key):
        return values.thought
    if isinstance(example, int | float) or _score_key.search(key):
        return values.rating.score
    return values.thought


def _nested_rating(rating: Rating, number: int, depth: int) -> Rating:
    """Return the overall rating at the outer level, and a criterion's rating in a nested object."""
    if not depth:
        return rating
    return rating._replace(score=criterion_score(rating.score, rating.max_score, rating.variation, number))


def _winner(example: Any, values: _Values) -> str | int:
    """Name the winner as the prompt does, A and B or 1 and 2; declare a tie only if the prompt mentions one."""
    winner = values.comparison.winner
    prompt = values.prompt
    if winner == 0:
        if '"C"' in prompt or "C:" in prompt:
            return "C"
        if "tie" in prompt.lower():
            return "tie"
        winner = 1 + values.comparison.variation % 2
    if isinstance(example, int) and not isinstance(example, bool) and example in (1, 2):
        return winner
    if isinstance(example, str) and example[:1] in ("1", "2"):
        return str(winner)
    return "AB"[winner - 1]
