"""Answers to custom messages: the emulator looks at the prompt for the form it asks for.

The forms are those of widely used judge templates. A prompt that asks for none of them gets the prose that the
PAI-Judge page shows for its custom template. Where the prompt marks two answers, the verdict follows the answers, not
their places.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from runner.emulator.answers.json_answers import fill_json
from runner.emulator.answers.phrases import Language
from runner.emulator.answers.scoring import Comparison, Rating, VerdictBias, compare, quality, rate, shade_of

_scale_words = re.compile(r"[01](?<![\d.].)\s*(?:-|–|—|~|to|到|至)\s*(\d{1,3})(?![\d.])")
_bracket_rating = re.compile(
    r"\[\[(?:rating|score|\d+(?:\.\d+)?|评分|分数)\]\]|(?:Rating|评分|打分)[:：] ?\[\[", re.IGNORECASE
)
_one_of_two = re.compile(r"""["“'(]?A["”')]? (?:or|或) ["“'(]?B["”')]?""")

_MARKERS = (
    ("Start of Assistant A", "Start of Assistant B"),
    ("Output (a):", "Output (b):"),
    ("Response 1:", "Response 2:"),
    ("Response A:", "Response B:"),
    ("Answer 1:", "Answer 2:"),
    ("Answer A:", "Answer B:"),
    ("Assistant 1:", "Assistant 2:"),
    ("回复1", "回复2"),
    ("回答1", "回答2"),
    ("助手A", "助手B"),
)
_ENDS = ("\n[The End", "\n<|The End", "\n\n# ", "\n\n[", "\n\n###")


class Prompt(NamedTuple):
    """Custom messages and what sways the verdict on them."""

    system: str
    user: str
    model: str
    sway: VerdictBias

    @property
    def whole(self) -> str:
        """Both texts, the system's first."""
        return f"{self.system}\n{self.user}"


def custom_text(prompt: Prompt, pieces: Language) -> str:
    """Answer custom messages in the form their template asks for."""
    whole = prompt.whole
    for asks_for, write in _FORMS:
        if asks_for(whole):
            return write(prompt, pieces)
    return _prose(prompt, pieces)


def rating_of(prompt: Prompt, default_top: int) -> Rating:
    """Judge the user's text on the scale the prompt names."""
    found = _scale_words.search(prompt.whole)
    top = int(found[1]) if found and int(found[1]) > 1 else default_top
    worth = quality(prompt.system, prompt.user[-1500:], None, prompt.model)
    return rate(worth, top, shade_of(prompt.user), prompt.sway)


def comparison_of(prompt: Prompt) -> Comparison:
    """Judge the two answers the user's text holds, on a scale of ten."""
    question, first, second = _answers(prompt.user)
    worths = [quality(question, answer, None, prompt.model) for answer in (first, second)]
    return compare(worths[0], worths[1], 10, shade_of(question), prompt.sway)


def _answers(user: str) -> tuple[str, str, str]:
    """Find what stands before the answers and the two answers; without marks, the two halves of the text."""
    for mark1, mark2 in _MARKERS:
        start = user.find(mark1)
        middle = user.find(mark2, start + len(mark1)) if start >= 0 else -1
        if middle >= 0:
            first, second = user[start + len(mark1) : middle], user[middle + len(mark2) :]
            return user[:start], _inner(first), _inner(second)
    half = len(user) // 2
    return "", user[:half], user[half:]


def _inner(part: str) -> str:
    """Take the rest of the marking line and what follows the answer off."""
    line, newline, rest = part.partition("\n")
    text = rest if newline and len(line) < 20 else part
    ends = [place for place in map(text.find, _ENDS) if place >= 0]
    return text[: min(ends, default=len(text))].strip()


def _prose(prompt: Prompt, pieces: Language) -> str:
    rating = rating_of(prompt, 5)
    return pieces.prose.format(score=rating.score, remark=pieces.remarks[rating.score * 2 > rating.top])


def _letters(prompt: Prompt, pieces: Language) -> str:
    return f"{pieces.thought} [[{'CAB'[comparison_of(prompt).winner]}]]"


def _arena(prompt: Prompt, pieces: Language) -> str:
    verdict = comparison_of(prompt)
    mark = ">>" if abs(verdict.score1 - verdict.score2) > 3 else ">"
    labels = ("A=B", f"A{mark}B", f"B{mark}A")
    return f"{pieces.thought}\n\nMy final verdict is: [[{labels[verdict.winner]}]]"


def _bracketed(prompt: Prompt, pieces: Language) -> str:
    return f"{pieces.thought}\n\nRating: [[{rating_of(prompt, 10).score}]]"


def _result(prompt: Prompt, pieces: Language) -> str:
    if _one_of_two.search(prompt.whole):
        return f"Feedback: {pieces.thought} [RESULT] {'AB'[comparison_of(prompt).winner == 2]}"
    return f"Feedback: {pieces.thought} [RESULT] {rating_of(prompt, 5).score}"


def _output_ab(prompt: Prompt, _pieces: Language) -> str:
    return f"Output ({'ab'[comparison_of(prompt).winner == 2]})"


def _decision(prompt: Prompt, pieces: Language) -> str:
    return f"{pieces.thought}\n\n{pieces.decisions[comparison_of(prompt).winner]}"


def _two_values(prompt: Prompt, pieces: Language) -> str:
    verdict = comparison_of(prompt)
    return f"{verdict.score1} {verdict.score2}\n{pieces.thought}"


def _reason_after(prompt: Prompt, pieces: Language) -> str:
    return f"{('Tie', '1', '2')[comparison_of(prompt).winner]}\n\n### Reason: {pieces.thought}"


def _dictionary(prompt: Prompt, pieces: Language) -> str:
    return f"{pieces.thought}\n{{'综合得分': {rating_of(prompt, 10).score}}}"


def _json(prompt: Prompt, pieces: Language) -> str:
    return fill_json(prompt.whole, comparison_of(prompt), rating_of(prompt, 10), pieces.thought)


def _asks_for_rating(text: str) -> object:
    return "[[" in text and _bracket_rating.search(text)


def _has(*needles: str) -> Callable[[str], bool]:
    return lambda text: all(needle in text for needle in needles)


_FORMS: tuple[tuple[Callable[[str], object], Callable[[Prompt, Language], str]], ...] = (
    (_has("[[A>B]]"), _arena),
    (_has("[[A]]", "[[B]]"), _letters),
    (_has("[RESULT]"), _result),
    (_has("Output (a)", "Output (b)"), _output_ab),
    (_has("final decision is"), _decision),
    (_has("最终决定是"), _decision),
    (_has("only two values"), _two_values),
    (_has("### Reason"), _reason_after),
    (_has("'综合得分'"), _dictionary),
    (_asks_for_rating, _bracketed),
    (re.compile(r'\{\s*"').search, _json),
)
