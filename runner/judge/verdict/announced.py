"""Tells the number that a judge announces as its score ("Score: 7", "I give it 7") from others in its text."""

from __future__ import annotations

import re

from runner.judge.verdict.common import RATING, before
from runner.judge.verdict.own_words import last_sentence
from runner.judge.verdict.positions import STATED

_CONTEXT_CHARS = 80

_LINK = r"[^\w\n]{0,8}(?:is|of|at|would be|was|为|為|是)?[^\w\n]{0,8}(?:an?[ \t])?[^\w\n]{0,4}\Z"
_OVERALL = r"(?:\b(?:overall|final(?:ly)?|total)|[综綜]合|[总總][体體分]|整[体體]|最[终終后後])"
_LABELLED = re.compile(rf"(?:{RATING}|{_OVERALL}|\b(?:verdict|marks?|mark))(?:[ \t]?{STATED})?{_LINK}", re.IGNORECASE)
_LABELLED_OVERALL = re.compile(
    rf"{_OVERALL}[^\w\n]{{0,4}}(?:{RATING}|marks?|verdict)?(?:[ \t]?{STATED})?{_LINK}", re.IGNORECASE
)
# "it gets a 7", "so: 7", 因此打7分.
_GIVEN = re.compile(
    r"(?:\b(?:gets|earns|deserves|receives|merits|scores|rate|give|assign|award|therefore|thus|hence|so|conclusion)\b"
    r"|得(?![到出])|打|[给給](?!出)|因此|所以)[^\w\n]{0,4}(?:an?[ \t]|it[ \t]|this[ \t]|[为為])?[^\w\n]{0,4}\Z",
    re.IGNORECASE,
)
# "I would give it an 8", 我给这个回答打8分; not "I found 2 errors".
_OWN_GIVES = re.compile(
    r"\b(?:I|we)\b[^.!?\n\d]{0,40}\b(?:give|gave|rate|say|score|assign|award|grade|mark|put|settle|go|call|choose|pick)\b"
    r"[^.!?\n\d]{0,30}\Z|我[^。！？\n\d]{0,16}(?:[给給]|打|[评評])[^。！？\n\d]{0,12}\Z",
    re.IGNORECASE,
)
_FOR_ASPECT = re.compile(r"(?:[ \t]?points?)?[ \t](?:for|on|in)[ \t][^\W\d]")
# A label that no other word precedes: "Score: 7" is one, "Clarity score: 7" is not.
_PLAINLY = re.compile(
    rf"[^\w\n]*(?:(?:my|the|this|our)[ \t])?(?:{_OVERALL}[ \t]?)?{RATING}(?:[ \t]?{STATED})?{_LINK}", re.IGNORECASE
)
# A few words that make a clause with the number: "Accuracy: 8", "and the style is 6", 准确性为8.
_CRITERION = re.compile(
    r"[^\w\n]{0,6}(?:the[ \t])?(?!(?:no|so|result|grade|mean|average|total)\b|[总總]?共|[总總]|合[计計]|平均)"
    r"[^\W\d]+(?:[ \t-][^\W\d]+){0,2}?[^\w\n]{0,4}(?:is|was|为|為|是|得)?[^\w\n]{0,4}",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[\n.,;，。；、!?！？(（]|\b(?:and|but|while|whereas)\b|[和与而]", re.IGNORECASE)
_CLAUSE_ENDS = re.compile(rf"[ \t*_]{{0,4}}(?:\Z|{_CLAUSE.pattern}|[)）])", re.IGNORECASE)
_WORD = re.compile(r"\w")


def is_announced(text: str, start: int, end: int) -> bool:
    """Return True if the words before a number call it a score, or if the number is alone on its line."""
    earlier = before(text, start, _CONTEXT_CHARS).rpartition("\n")[2]
    if _LABELLED.search(earlier) or _GIVEN.search(earlier) or _OWN_GIVES.search(earlier):
        return True
    return not _WORD.search(earlier) and not _WORD.search(text[end : end + _CONTEXT_CHARS].partition("\n")[0])


def is_announced_overall(text: str, start: int) -> bool:
    """Return True if a label before a number calls it the overall score."""
    return _LABELLED_OVERALL.search(before(text, start, _CONTEXT_CHARS).rpartition("\n")[2]) is not None


def is_plainly_announced(text: str, start: int) -> bool:
    """Return True if the words before a number in its sentence are only a label, or say that the judge gives it."""
    earlier = before(text, start, _CONTEXT_CHARS).rpartition("\n")[2]
    return _PLAINLY.fullmatch(last_sentence(earlier)) is not None or _OWN_GIVES.search(earlier) is not None


def is_of_criterion(text: str, start: int, end: int) -> bool:
    """Return True if a number and a few words before it are a clause, as in a list of the scores of criteria."""
    if _CLAUSE_ENDS.match(text, end) is None:
        return False
    return _CRITERION.fullmatch(_CLAUSE.split(before(text, start, _CONTEXT_CHARS))[-1]) is not None


def is_for_aspect(text: str, end: int) -> bool:
    """Return True if the words after a number name an aspect: "6 for style"."""
    return _FOR_ASPECT.match(text, end) is not None


def opens_text(text: str, start: int) -> bool:
    """Return True if no word is before a number."""
    return start <= _CONTEXT_CHARS and not _WORD.search(text[:start])
