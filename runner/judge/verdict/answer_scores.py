"""Assigns each score in a text to the answer that is named before it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.judge.verdict.common import BRACKETED_SCORE, NAMES

_BOTH = re.compile(
    r"两[个份条]回[复答]|兩[個份條]回[複覆復答]|两者|二者|兩者|双方|雙方"
    r"|(?:Both|both|Two|two) (?:responses|answers|assistants|replies)|They both|they both"
)
_STOP = re.compile(r"[。；;！!?？\n]|\.\s")
AND = r"[ \t*_]{0,4}(?:和|与|與|及|以及|跟|、|and|&|/)[ \t*_]{0,4}(?:the )?"
_AND = re.compile(AND)
_BOTH_SCORE = re.compile(r"(?:[都均皆][^，,。；;\n]{0,6}|\b[Bb]oth\b[^.;\n]{0,24})\Z")
_MAX_LIST_GAP_CHARS = 12  # characters between two scores of one list: "[[4]] and [[2]]"

PLURAL = r"两|兩|二者|双方|雙方|都|均|皆|Both|both|Two |two |They |they "
# A score, a name or a word for both. Each alternative begins with a literal character, so that the engine can skip
# all other text.
_STEP = re.compile(rf"{BRACKETED_SCORE}|{NAMES}|{PLURAL}")

_OWNERS = {end: (number,) for number, ends in ((1, "1１AＡ一"), (2, "2２BＢ二")) for end in ends}

_Step = re.Match[str]


def scores(text: str, start: int, end: int) -> dict[int, _Step]:
    """Return the first score of each answer (1 or 2) in a range of a text, as matches of `BRACKETED_SCORE`.

    A score belongs to the answer that is named last before it. "Answer 1 and answer 2" and "both answers" name two
    answers: one score is then the score of both, two scores in a row are theirs in that order.
    """
    found: dict[int, _Step] = {}
    names: list[_Step] = []
    owners: tuple[int, ...] = ()
    plural, since, previous = False, start, None
    for step in _STEP.finditer(text, start, end):
        if step.lastindex is None:  # not a score
            if step[0][-1] in _OWNERS:
                names.append(step)
            else:
                plural = True
            continue
        until = step.start()
        named = _named(text, since, until, names, plural)
        if not named and previous and len(owners) == 2 and until - since <= _MAX_LIST_GAP_CHARS:
            if found.get(owners[1]) is previous:
                found[owners[1]] = step
            named = (owners[1],)
        owners = named or owners
        for answer in owners:
            found.setdefault(answer, step)
        names, plural, since, previous = [], False, step.end(), step
    return found


def answer_of(name: str) -> int:
    """Return the answer, 1 or 2, that a name names."""
    return _OWNERS[name[-1]][0]


def _named(text: str, since: int, until: int, names: Sequence[_Step], plural: bool) -> tuple[int, ...]:
    """Return the answers that the text between two positions names for the score after it."""
    if plural and _both(text, since, until, names):
        return (1, 2)
    if not names:
        return ()
    last = _OWNERS[names[-1][0][-1]]
    if len(names) > 1:
        other = _OWNERS[names[-2][0][-1]]
        if other != last and _AND.fullmatch(text, names[-2].end(), names[-1].start()):
            return other + last
    return last


def _both(text: str, since: int, until: int, names: Sequence[_Step]) -> bool:
    """Return True if a score belongs to both answers.

    Either "both answers" follows the last name, in a sentence of its own; or "both" is just before the score and the
    text does not name only one of the answers.
    """
    lone = len(names) == 1 or len({answer_of(name[0]) for name in names}) == 1
    if not lone and _BOTH_SCORE.search(text[max(since, until - 32) : until]):
        return True
    after_names = names[-1].end() if names else since
    both = _BOTH.search(text, after_names, until)
    return both is not None and (not names or _STOP.search(text, after_names, both.start()) is not None)
