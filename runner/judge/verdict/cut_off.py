"""Reads replies that the token limit cut off: a verdict counts only if nothing that may have followed can change it.

In most formats the verdict is at the end or anywhere in the text, so a reply that was cut off has none, whatever was
found before the cut. In the others the verdict comes first, and counts if that place was complete: `Score: 1` may be
the beginning of `Score: 10`.
"""

from __future__ import annotations

from runner.config import JudgeConfig
from runner.judge.verdict.common import Reader, unreadable
from runner.types import Verdict

# The formats whose verdict opens the text. Patterns are beside them if they take the first match.
OPENING_FORMATS = frozenset({"pai_single", "pai_pairwise", "pandalm", "judgelm", "first_number"})

# What may have followed: more of the same number or word, a range, a top, or another verdict in the same sentence.
_CONTINUATIONS = (
    *("5", ".5", ",000", "-9", " or 2", "/1000", "%", "x", "分制", "[[1]]", "[[2]]"),
    *("[[回复1更好]]", "[[回复2更好]]", "\n\nOverall score: 3", "\n\nOverall score: 4"),
    *("\n1. 综合评分为[[1]]", "\n1. 综合评分为[[2]]"),
)


def cut_off_reader(judge: JudgeConfig, read: Reader) -> Reader:
    """Return the reader of a judge's replies that were cut off.

    Args:
        judge: the judge.
        read: the reader of its complete replies.
    """
    return (lambda text: _read_opening(text, read)) if _opens_with_verdict(judge) else (lambda text: _cut(read(text)))


def _opens_with_verdict(judge: JudgeConfig) -> bool:
    verdict = judge.verdict
    if verdict is None:
        return judge.kind in OPENING_FORMATS
    if verdict.pattern is not None:
        return verdict.pick == "first"
    return verdict.format in OPENING_FORMATS


def _read_opening(text: str, read: Reader) -> Verdict:
    verdict = read(text)
    if verdict.problem == "no_verdict":
        return _cut(verdict)
    meaning = _meaning(verdict)
    return verdict if all(_meaning(read(text + more)) == meaning for more in _CONTINUATIONS) else _cut(verdict)


def _meaning(verdict: Verdict) -> tuple[object, ...]:
    return verdict.problem, verdict.score, verdict.winner, verdict.score1, verdict.score2, verdict.label


def _cut(verdict: Verdict) -> Verdict:
    found = next((value for value in _meaning(verdict)[1:] if value is not None), None)
    if found is None:
        return unreadable("truncated", "cut off at the token limit before a verdict", verdict.rule)
    shown = f"{found:g}" if isinstance(found, float) else found
    return unreadable(
        "truncated", f"cut off at the token limit: {shown} was read, but the rest may say otherwise", verdict.rule
    )
