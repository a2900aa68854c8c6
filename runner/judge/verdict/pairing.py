"""Which of two answers a score belongs to, told by the names before it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.judge.verdict.reading import Mark, marks

NAME = re.compile(
    r"(?:回[复複覆復答]|答案|助手|模型|Response|response|Answer|answer|Assistant|assistant|Reply|reply|Model|model)"
    r"[ \t*_]{0,3}(?P<answer>[12１２])(?!\d)"
)
"""The name of one of the two answers. (Each word begins with a plain letter: the engine then skips all other text.)"""

_BOTH = re.compile(
    r"两[个份条]回[复答]|兩[個份條]回[複覆復答]|两者|二者|兩者|双方|雙方"
    r"|(?:Both|both|Two|two) (?:responses|answers|assistants|replies)|They both|they both"
)
_STOP = re.compile(r"[。；;！!?？\n]|\.\s")
_AND = re.compile(r"[ \t*_]{0,4}(?:和|与|與|及|以及|跟|、|and|&|/)[ \t*_]{0,4}(?:the )?")
_BOTH_SCORE = re.compile(r"(?:[都均皆][^，,。；;\n]{0,6}|\b[Bb]oth\b[^.;\n]{0,24})\Z")
_NEAR = 12  # characters between two scores of one list: "[[4]] and [[2]]"

_PLURAL = re.compile(r"两|兩|二者|双方|雙方|都|均|皆|Both|both|Two |two |They |they ")

_Name = re.Match[str]


def scores(text: str, start: int, end: int) -> dict[int, Mark]:
    """Return the first score of each answer, 1 and 2, in a stretch of a text; one score can serve both.

    A score belongs to the answer named last before it. "Answer 1 and answer 2", "both answers" name two; then two
    scores in a row are theirs in that order.
    """
    found: dict[int, Mark] = {}
    names = list(NAME.finditer(text, start, end))
    plural = _PLURAL.search(text, start, end) is not None
    owners: tuple[int, ...] = ()
    seen, since, previous = 0, start, None
    for mark in marks(text, start, end):
        first = seen
        while seen < len(names) and names[seen].start() < mark.start:
            seen += 1
        named = _named(text, since, mark.start, names[first:seen], plural)
        if not named and previous and len(owners) == 2 and mark.start - since <= _NEAR:
            if found.get(owners[1]) is previous:
                found[owners[1]] = mark
            named = (owners[1],)
        owners = named or owners
        for answer in owners:
            found.setdefault(answer, mark)
        since, previous = mark.end, mark
    return found


def answer_of(name: _Name) -> int:
    """Return which answer a match of `NAME` names, 1 or 2."""
    return 1 if name["answer"] in "1１" else 2


def _named(text: str, since: int, until: int, names: Sequence[_Name], plural: bool) -> tuple[int, ...]:
    """Return the answers that the words between two places name for the score that follows them."""
    if plural and _both(text, since, until, names):
        return (1, 2)
    if not names:
        return ()
    last = answer_of(names[-1])
    if len(names) > 1 and answer_of(names[-2]) != last and _AND.fullmatch(text, names[-2].end(), names[-1].start()):
        return (3 - last, last)
    return (last,)


def _both(text: str, since: int, until: int, names: Sequence[_Name]) -> bool:
    """Whether a score is about both answers.

    Either "both answers" is said after the last name, in a sentence of its own; or "both" stands right before the
    score, and not one answer alone was named.
    """
    lone = len(names) == 1 or len({answer_of(name) for name in names}) == 1
    if not lone and _BOTH_SCORE.search(text[max(since, until - 32) : until]):
        return True
    spoken = names[-1].end() if names else since
    both = _BOTH.search(text, spoken, until)
    return both is not None and (not names or _STOP.search(text, spoken, both.start()) is not None)
