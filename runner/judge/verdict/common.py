"""What all readers share: thought, numbers, scales, and the double brackets that most formats write."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache

import msgspec

from runner.config import JudgeConfig
from runner.types import Verdict

Scale = tuple[float, float] | None
"""Lowest and highest score; None where any finite number will do."""

Reader = Callable[[str], Verdict]
Factory = Callable[[JudgeConfig], Reader]

OPEN = r"\[\["
CLOSE = r"\]\]"
PAD = r"[\s*_`\"'“”‘’]{0,8}+"
"""Spaces, emphasis and quotes; bounded and possessive, so that no text takes more than linear time."""

RATING = r"(?i:rating|score|grade|评分|評分|打分|得分|分数|分數|总分|總分|評価|評点|点数|スコア|평가|평점|점수|등급)"
"""The words with which judges announce a rating."""

NUMBER = r"[-−]?\d++(?:[.．]\d++)?"
UNIT = r"(?i:分|点|點|점|points?|pts?|stars?|星)"
OUT_OF = rf"(?:{PAD}(?:[/／]|(?i:out of)){PAD}(?P<top>\d++(?:[.．]\d++)?){PAD}{UNIT}?)?"
NUMBERED = rf"{PAD}(?:{RATING}{PAD}[:：=]?{PAD}[\[【]?{PAD})?(?P<value>{NUMBER}){PAD}{UNIT}?{OUT_OF}{PAD}[\]】]?{CLOSE}"
"""What follows the double brackets that open a number."""

MARK = rf"{OPEN}(?:(?P<digit>\d){CLOSE}|{NUMBERED})"
"""A number in double brackets: `[[5]]`, `[[ 5 ]]`, `[[8/10]]`, `[[4分]]`, `[[Rating: 7]]`, `【【７】】`.

The common case comes first and has its own group: it is half the time.
"""

_MARK = re.compile(MARK)

NAMES = "|".join(
    rf"{word}[ \t*_]{{0,3}}[12１２](?!\d)"
    for word in (
        *("回[复複覆復答]", "答案", "助手", "模型", "Response", "response", "Answer", "answer"),
        *("Assistant", "assistant", "Reply", "reply", "Model", "model"),
    )
)
NAME = re.compile(NAMES)
"""The name of one of the two answers; the last character is its number."""

_WIDE = str.maketrans("【】［］", "[][]")
_NAMED = re.compile(r"[A-Za-z0-9_]")
_WIDE_PAIR = re.compile("【【|［［|】】|］］")
_THOUGHT = re.compile(r"<(/?)think>", re.IGNORECASE)


class ScoreMention(msgspec.Struct, frozen=True):
    """A number that a judge set apart, with the top of its scale where the judge wrote one (`8/10`)."""

    start: int
    end: int
    value: float
    top: float | None

    def fits(self, scale: Scale) -> bool:
        """Whether this is a score on the scale; a fraction must name the scale's own top."""
        if scale is None:
            return math.isfinite(self.value)
        return scale[0] <= self.value <= scale[1] and (self.top is None or self.top == scale[1])

    def __str__(self) -> str:
        return f"{self.value:g}" if self.top is None else f"{self.value:g}/{self.top:g}"


def bracketed(match: re.Match[str]) -> ScoreMention:
    """Return the mark of a match of `MARK`."""
    digit = match["digit"]
    return mark_of(match) if digit is None else ScoreMention(*match.span(), float(digit), None)


def fitting(match: re.Match[str], scale: Scale) -> float | None:
    """Return the value of a match of `MARK` if it is on the scale."""
    digit = match[1]
    if digit is not None:
        value = float(digit)
        return value if scale is None or scale[0] <= value <= scale[1] else None
    mark = mark_of(match)
    return mark.value if mark.fits(scale) else None


def mark_of(match: re.Match[str]) -> ScoreMention:
    """Return the mark of a match that has the groups `value` and `top`."""
    value, top = match.group("value", "top")
    return ScoreMention(match.start(), match.end(), to_number(value), to_number(top) if top else None)


def marks(text: str, start: int = 0, end: int = sys.maxsize) -> Iterator[ScoreMention]:
    """Return the numbers in double brackets, in the order of the text."""
    for match in _MARK.finditer(text, start, end):
        yield bracketed(match)


@lru_cache(maxsize=256)
def to_number(text: str) -> float:
    """Return a number written with any decimal digits; one too long to mean anything is infinite."""
    if len(text) > 40:
        return math.inf
    return float(text.replace("．", ".").replace("−", "-"))


def strip_thinking(text: str) -> str:
    """Return the text without what stands in `<think>`; a lone `</think>` ends a thought that began before it."""
    if "<" not in text or not _THOUGHT.search(text):
        return text
    said: list[str] = []
    position, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        if tag[1]:
            if not thinking:
                said.clear()
            thinking = False
        else:
            if not thinking:
                said.append(text[position : tag.start()])
            thinking = True
        position = tag.end()
    if not thinking:
        said.append(text[position:])
    return "".join(said)


def plain_brackets(text: str) -> str:
    """Return the text with full-width double brackets as plain ones; every character keeps its place."""
    if text.isascii() or not ("【" in text or "】" in text or "［" in text or "］" in text):
        return text  # one character is found ten times as fast as two
    return text.translate(_WIDE) if _WIDE_PAIR.search(text) else text


def unreadable(problem: str, detail: str, rule: str | None = None) -> Verdict:
    """Return the verdict of a text that has none, with the reason."""
    return Verdict(problem=problem, detail=detail, rule=rule)


def is_index(text: str, start: int) -> bool:
    """Whether brackets that open at a position are the index of a name in code: `x[[1]]`, `df[["A"]]`, `x[a>b]`."""
    return start > 0 and _NAMED.match(text, start - 1) is not None


def before(text: str, position: int, width: int) -> str:
    """Return the few characters that stand before a position."""
    return text[max(0, position - width) : position]
