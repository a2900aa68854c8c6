"""Shared by all readers: numbers, scales, and scores in double brackets."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache

import msgspec

from runner.config import JudgeConfig
from runner.types import Verdict

# Lowest and highest score; None allows any finite number.
Scale = tuple[float, float] | None

Reader = Callable[[str], Verdict]
Factory = Callable[[JudgeConfig], Reader]

OPEN = r"\[\["
CLOSE = r"\]\]"
# Spaces, emphasis and quotes. Bounded and possessive, so that matching takes linear time on every text.
PAD = r"[\s*_`\"'“”‘’]{0,8}+"

# The words with which judges announce a rating.
RATING = r"(?i:rating|score|grade|评分|評分|打分|得分|分数|分數|总分|總分|評価|評点|点数|スコア|평가|평점|점수|등급)"

NUMBER = r"[-−]?\d++(?:[.．]\d++)?"
UNIT = r"(?i:分|点|點|점|points?|pts?|stars?|星)"
OUT_OF = rf"(?:{PAD}(?:[/／]|(?i:out of)){PAD}(?P<top>\d++(?:[.．]\d++)?){PAD}{UNIT}?)?"
# The rest of a number in double brackets, after `[[`.
NUMBERED = rf"{PAD}(?:{RATING}{PAD}[:：=]?{PAD}[\[【]?{PAD})?(?P<value>{NUMBER}){PAD}{UNIT}?{OUT_OF}{PAD}[\]】]?{CLOSE}"

# A number in double brackets: `[[5]]`, `[[ 5 ]]`, `[[8/10]]`, `[[4分]]`, `[[Rating: 7]]`, `【【７】】`.
# The common case, a single digit, comes first and has its own group, which takes half the time.
BRACKETED_SCORE = rf"{OPEN}(?:(?P<digit>\d){CLOSE}|{NUMBERED})"

_BRACKETED_SCORE = re.compile(BRACKETED_SCORE)

# The end of an answer's name: its number or letter. A Chinese numeral may begin a word (一样, 二者).
_NUMERAL = r"[一二](?=[更略稍明显顯優优胜勝比和与與跟及、得为為是较較好在则則均都要，。,.:：;；\s\])）*]|\Z|的(?!确))"
NUMBER_END = r"[12１２](?!\d)"
_LETTER_END = r"[ABＡＢ](?![A-Za-z0-9])"
_NAMED_BY = (
    # "Answer B" can be an option of a multiple-choice question; so letters count only after some words.
    (("回[复複覆復]", "助手", "模型"), rf"(?:{NUMBER_END}|{_LETTER_END}|{_NUMERAL})"),
    (("Response", "response", "Assistant", "assistant", "Reply", "reply"), rf"(?:{NUMBER_END}|{_LETTER_END})"),
    (("回[答應应]", "答案"), rf"(?:{NUMBER_END}|{_NUMERAL})"),
    (("Answer", "answer", "Model", "model"), NUMBER_END),
)


def names(rest: str = "") -> str:
    """Return the alternatives of a pattern for an answer's name, each followed by `rest`.

    Each alternative begins with a literal character, so that the engine can skip all other text.
    """
    return "|".join(rf"{word}[ \t*_]{{0,3}}{ends}{rest}" for words, ends in _NAMED_BY for word in words)


NAMES = names()
# The name of one of the two answers; its last character is the answer's number or letter.
NAME = re.compile(NAMES)

_WIDE = str.maketrans("【】［］", "[][]")
_NAME_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
_WIDE_PAIR = re.compile("【【|［［|】】|］］")


class ScoreMention(msgspec.Struct, frozen=True):
    """A score found in a text, with the top of its scale if the judge wrote one (`8/10`).

    Attributes:
        start, end: position in the text; 0 if the score is a value of an object.
        value: the score.
        top: the top of the scale that the judge wrote, or None.
    """

    start: int
    end: int
    value: float
    top: float | None

    def fits(self, scale: Scale) -> bool:
        """Return True if the score is on the scale; the top of a fraction must be the top of the scale."""
        if scale is None:
            return math.isfinite(self.value)
        return scale[0] <= self.value <= scale[1] and (self.top is None or self.top == scale[1])

    def __str__(self) -> str:
        return f"{self.value:g}" if self.top is None else f"{self.value:g}/{self.top:g}"


def bracketed(match: re.Match[str]) -> ScoreMention:
    """Return the score of a match of `BRACKETED_SCORE`."""
    digit = match["digit"]
    return mention_of(match) if digit is None else ScoreMention(*match.span(), float(digit), None)


def fitting(match: re.Match[str], scale: Scale) -> float | None:
    """Return the value of a match of `BRACKETED_SCORE`, or None if it is off the scale."""
    digit = match[1]
    if digit is not None:
        value = float(digit)
        return value if scale is None or scale[0] <= value <= scale[1] else None
    mention = mention_of(match)
    return mention.value if mention.fits(scale) else None


def mention_of(match: re.Match[str]) -> ScoreMention:
    """Return the score of a match that has the groups `value` and `top`."""
    value, top = match.group("value", "top")
    return ScoreMention(match.start(), match.end(), to_number(value), to_number(top) if top else None)


def mentions(text: str, start: int = 0, end: int = sys.maxsize) -> Iterator[ScoreMention]:
    """Generate the scores in double brackets, in text order."""
    for match in _BRACKETED_SCORE.finditer(text, start, end):
        yield bracketed(match)


@lru_cache(maxsize=256)
def to_number(text: str) -> float:
    """Return the value of a number in any script's decimal digits; one of more than 40 characters is infinite."""
    if len(text) > 40:
        return math.inf
    return float(text.replace("．", ".").replace("−", "-"))


def plain_brackets(text: str) -> str:
    """Return the text with full-width double brackets replaced by ASCII ones; all positions stay the same."""
    if text.isascii() or not ("【" in text or "】" in text or "［" in text or "］" in text):
        return text  # searching for one character is ten times as fast as for two
    return text.translate(_WIDE) if _WIDE_PAIR.search(text) else text


def unreadable(problem: str, detail: str, rule: str | None = None) -> Verdict:
    """Return a verdict without a value, with the reason.

    Args:
        problem: the `error_type`.
        detail: what was found, for `error_message`.
        rule: the rule that fired, if any did.
    """
    return Verdict(problem=problem, detail=detail, rule=rule)


def is_index(text: str, start: int) -> bool:
    """Return True if brackets at a position are an index in code: `x[[1]]`, `df[["A"]]`, `x[a>b]`."""
    return start > 0 and text[start - 1] in _NAME_CHARS


def before(text: str, position: int, width: int) -> str:
    """Return up to `width` characters before a position."""
    return text[max(0, position - width) : position]
