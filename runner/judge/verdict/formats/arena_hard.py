"""Arena-Hard's labels: `My final verdict is: [[A>B]]`, from `[[A>>B]]` through `[[A=B]]` (a tie) to `[[B>>A]]`.

The prompt requests the label after the explanation, so the last line with a label counts (lmarena/arena-hard-auto
also takes the last match). Different winners on that line are a conflict. `>>` and `>` give the same winner.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.config import JudgeConfig
from runner.judge.verdict.common import CLOSE, OPEN, PAD, Reader, is_index, plain_brackets, unreadable
from runner.judge.verdict.positions import last_line, on_last_line
from runner.types import Verdict, Winner

_SIDE = r"(?:(?i:assistant|model|response|answer)[ ]?)?[ABabＡＢ]"
_LABEL = (
    rf"{PAD}(?P<left>{_SIDE}){PAD}(?P<sign>[>＞]{{1,2}}|[<＜]{{1,2}}|[=＝]{{1,2}}|[≫≪]){PAD}(?P<right>{_SIDE}){PAD}"
)
_DOUBLE = re.compile(rf"{OPEN}{_LABEL}{CLOSE}")
_SINGLE = re.compile(rf"\[{_LABEL}\]")
_BARE = re.compile(rf"(?:\A|(?i:verdict)(?P<said>[^\n]{{0,80}})[\s:：]){_LABEL}[.。!]?{PAD}\Z")
# Text between "verdict" and a bare label that shows that the label is not the verdict, or not the only one.
_QUALIFIER = re.compile(r"[<>=＜＞＝≫≪]|\b(?:not|never|nor|or|if|unless|whether)\b|n['’]t\b", re.IGNORECASE)

_FIRST = frozenset("AaＡ")
_LEGEND = ("A>>", "A>", "A=", "B>", "B>>")
_LEGEND_LENGTH = 800

_Label = re.Match[str]


def reader(_: JudgeConfig) -> Reader:
    """Return the reader of Arena-Hard's labels."""
    return _read


def _read(text: str) -> Verdict:
    plain = plain_brackets(text)
    for pattern, rule in ((_DOUBLE, "arena_hard.bracket"), (_SINGLE, "arena_hard.single_bracket")):
        found = [match for match in pattern.finditer(plain) if _winner(match) and not is_index(plain, match.start())]
        if found:
            return _decide(on_last_line(plain, _without_legend(found)), rule)
    bare = _BARE.search(last_line(plain))
    if bare is not None and _winner(bare) and not _QUALIFIER.search(bare["said"] or ""):
        return Verdict(rule="arena_hard.bare", winner=_winner(bare))
    return unreadable("no_verdict", "no label such as [[A>B]]")


def _decide(found: Sequence[_Label], rule: str) -> Verdict:
    winners = {_winner(match) for match in found}
    if len(winners) != 1:
        return unreadable(
            "conflict", "different labels on the last line with a label, or only the prompt's list of labels", rule
        )
    return Verdict(rule=rule, winner=winners.pop())


def _winner(match: _Label) -> Winner | None:
    """Return the winner of a label, or None if it names the same side twice."""
    left, right = (match[name][-1] in _FIRST for name in ("left", "right"))
    if left == right:
        return None
    if match["sign"][0] in "=＝":
        return "tie"
    return "1" if left == (match["sign"][0] in ">＞≫") else "2"


def _without_legend(found: Sequence[_Label]) -> list[_Label]:
    """Return the labels without any repetition of the prompt's list: five labels close together in its order."""
    kept: list[_Label] = []
    names: list[str] = []
    for match in found:
        kept.append(match)
        names.append(match["left"][-1] + match["sign"])
        if tuple(names[-5:]) == _LEGEND and kept[-1].start() - kept[-5].start() < _LEGEND_LENGTH:
            del kept[-5:], names[-5:]
    return kept
