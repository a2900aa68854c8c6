"""A JSON object in the shape a prompt shows."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec

from runner.emulator.answers.scoring import Comparison, Rating, below

_opening = re.compile(r'\{\s*"')
_key = re.compile(r'"([^"{}\n]{1,40})"\s*[:：]\s*("?)')
_winner = re.compile(r"winner|verdict|choice|better|prefer|胜者|更好|选择", re.IGNORECASE)
_words = re.compile(
    r"reason|expla|feedback|analy|comment|thought|critique|rationale|理由|原因|分析|解释|评语", re.IGNORECASE
)
_number = re.compile(r"scor|rating|overall|grade|points|得分|评分|分数|总分", re.IGNORECASE)
_decoder = json.JSONDecoder()


class _Filling(NamedTuple):
    """What the values are made of."""

    prompt: str
    verdict: Comparison
    rating: Rating
    thought: str


def fill_json(prompt: str, verdict: Comparison, rating: Rating, thought: str) -> str:
    """Write an object with the keys of the prompt's example: a winner, scores and texts by the keys' names."""
    filling = _Filling(prompt, verdict, rating, thought)
    return msgspec.json.encode(_filled(_example(prompt), "", filling, 0)).decode()


def _example(prompt: str) -> dict[str, Any]:
    """Return the example itself, or, where it holds placeholders and is no JSON, its keys."""
    opening = _opening.search(prompt)
    start = opening.start() if opening else 0
    try:
        example, _ = _decoder.raw_decode(prompt, start)
    except (ValueError, RecursionError):
        example = {key: "" if quote else 0 for key, quote in _key.findall(prompt[start : start + 4000])}
    return example if isinstance(example, dict) and example else {"score": 0}


def _filled(example: Any, key: str, filling: _Filling, depth: int) -> Any:
    if isinstance(example, dict) and depth < 5:
        return {
            name: _filled(value, name, filling._replace(rating=_nearby(filling.rating, number, depth)), depth + 1)
            for number, (name, value) in enumerate(example.items())
        }
    if _winner.search(key):
        return _side(example, filling)
    if _words.search(key):
        return filling.thought
    if isinstance(example, int | float) or _number.search(key):
        return filling.rating.score
    return filling.thought


def _nearby(rating: Rating, number: int, depth: int) -> Rating:
    """Keep the overall score on the outer level; what is nested is a score below it."""
    return rating._replace(score=below(rating.score, rating.top, rating.shade, number)) if depth else rating


def _side(example: Any, filling: _Filling) -> str | int:
    """Name the winner in the prompt's manner: A and B, or 1 and 2; a tie only where the prompt knows one."""
    winner = filling.verdict.winner
    prompt = filling.prompt
    if winner == 0:
        if '"C"' in prompt or "C:" in prompt:
            return "C"
        if "tie" in prompt.lower():
            return "tie"
        winner = 1 + filling.verdict.shade % 2
    if isinstance(example, int) and not isinstance(example, bool) and example in (1, 2):
        return winner
    if isinstance(example, str) and example[:1] in ("1", "2"):
        return str(winner)
    return "AB"[winner - 1]
