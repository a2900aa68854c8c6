"""Answers to custom messages, in the form that the prompt asks for.

The forms are those of widely used judge templates. If the prompt asks for none of them, the answer is the prose that
the PAI-Judge page shows for its custom template. If the prompt marks two answers, the verdict depends on the answers
and not on their positions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from runner.emulator.answers.json_answers import fill_json
from runner.emulator.answers.phrases import Language
from runner.emulator.answers.scoring import Comparison, Rating, VerdictBias, answer_quality, compare, rate, text_hash

_scale = re.compile(r"[01](?<![\d.].)\s*(?:-|–|—|~|to|到|至)\s*(\d{1,3})(?![\d.])")
_bracket_rating = re.compile(
    r"\[\[(?:rating|score|\d+(?:\.\d+)?|评分|分数)\]\]|(?:Rating|评分|打分)[:：] ?\[\[", re.IGNORECASE
)
_one_of_two = re.compile(r"""["“'(]?A["”')]? (?:or|或) ["“'(]?B["”')]?""")

# Marks before the first and before the second answer.
_ANSWER_MARKS = (
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
# Texts that can follow an answer.
_ANSWER_ENDS = ("\n[The End", "\n<|The End", "\n\n# ", "\n\n[", "\n\n###")
_RATED_CHARS = 1500  # only the end of the user's text is rated
_MAX_MARK_LINE_CHARS = 20


class Prompt(NamedTuple):
    """Custom messages, and the influences on their verdict besides the texts."""

    system: str
    user: str
    model: str
    bias: VerdictBias

    @property
    def whole(self) -> str:
        """Both texts, the system's first."""
        return f"{self.system}\n{self.user}"


def custom_text(prompt: Prompt, phrases: Language) -> str:
    """Answer custom messages in the form that their template asks for."""
    whole = prompt.whole
    for matches, write in _FORMS:
        if matches(whole):
            return write(prompt, phrases)
    return _prose(prompt, phrases)


def rating_of(prompt: Prompt, default_max_score: int) -> Rating:
    """Rate the user's text on the scale that the prompt names, or up to `default_max_score` if it names none."""
    found = _scale.search(prompt.whole)
    max_score = int(found[1]) if found and int(found[1]) > 1 else default_max_score
    quality = answer_quality(prompt.system, prompt.user[-_RATED_CHARS:], None, prompt.model)
    return rate(quality, max_score, text_hash(prompt.user), prompt.bias)


def comparison_of(prompt: Prompt) -> Comparison:
    """Compare the two answers in the user's text, on a scale of ten."""
    question, answer1, answer2 = _split_answers(prompt.user)
    quality1, quality2 = (answer_quality(question, answer, None, prompt.model) for answer in (answer1, answer2))
    return compare(quality1, quality2, 10, text_hash(question), prompt.bias)


def _split_answers(user: str) -> tuple[str, str, str]:
    """Return the text before the answers and the two answers; without marks, the answers are the text's two halves."""
    for mark1, mark2 in _ANSWER_MARKS:
        start = user.find(mark1)
        middle = user.find(mark2, start + len(mark1)) if start >= 0 else -1
        if middle >= 0:
            first, second = user[start + len(mark1) : middle], user[middle + len(mark2) :]
            return user[:start], _strip_marks(first), _strip_marks(second)
    half = len(user) // 2
    return "", user[:half], user[half:]


def _strip_marks(part: str) -> str:
    """Remove the rest of the mark's line before the answer, and everything that follows the answer."""
    line, newline, rest = part.partition("\n")
    text = rest if newline and len(line) < _MAX_MARK_LINE_CHARS else part
    ends = [index for index in map(text.find, _ANSWER_ENDS) if index >= 0]
    return text[: min(ends, default=len(text))].strip()


def _prose(prompt: Prompt, phrases: Language) -> str:
    rating = rating_of(prompt, 5)
    return phrases.prose.format(score=rating.score, remark=phrases.remarks[rating.score * 2 > rating.max_score])


def _letters(prompt: Prompt, phrases: Language) -> str:
    return f"{phrases.thought} [[{'CAB'[comparison_of(prompt).winner]}]]"


def _arena(prompt: Prompt, phrases: Language) -> str:
    verdict = comparison_of(prompt)
    mark = ">>" if abs(verdict.score1 - verdict.score2) > 3 else ">"
    labels = ("A=B", f"A{mark}B", f"B{mark}A")
    return f"{phrases.thought}\n\nMy final verdict is: [[{labels[verdict.winner]}]]"


def _bracketed(prompt: Prompt, phrases: Language) -> str:
    return f"{phrases.thought}\n\nRating: [[{rating_of(prompt, 10).score}]]"


def _result(prompt: Prompt, phrases: Language) -> str:
    if _one_of_two.search(prompt.whole):
        return f"Feedback: {phrases.thought} [RESULT] {'AB'[comparison_of(prompt).winner == 2]}"
    return f"Feedback: {phrases.thought} [RESULT] {rating_of(prompt, 5).score}"


def _output_ab(prompt: Prompt, _phrases: Language) -> str:
    return f"Output ({'ab'[comparison_of(prompt).winner == 2]})"


def _decision(prompt: Prompt, phrases: Language) -> str:
    return f"{phrases.thought}\n\n{phrases.decisions[comparison_of(prompt).winner]}"


def _two_values(prompt: Prompt, phrases: Language) -> str:
    verdict = comparison_of(prompt)
    return f"{verdict.score1} {verdict.score2}\n{phrases.thought}"


def _reason_after(prompt: Prompt, phrases: Language) -> str:
    return f"{('Tie', '1', '2')[comparison_of(prompt).winner]}\n\n### Reason: {phrases.thought}"


def _dictionary(prompt: Prompt, phrases: Language) -> str:
    return f"{phrases.thought}\n{{'综合得分': {rating_of(prompt, 10).score}}}"


def _json(prompt: Prompt, phrases: Language) -> str:
    return fill_json(prompt.whole, comparison_of(prompt), rating_of(prompt, 10), phrases.thought)


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
