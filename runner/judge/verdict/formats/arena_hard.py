"""Arena-Hard's labels: `My final verdict is: [[A>B]]`, from `[[A>>B]]` through `[[A=B]]` (a tie) to `[[B>>A]]`.

The prompt requests the label after the explanation, so the last line with a label counts (lmarena/arena-hard-auto
also takes the last match). Different winners on that line are a conflict, and so is a last label that only remarks on
an announced one. `>>` and `>` give the same winner.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.config import JudgeConfig
from runner.judge.verdict.common import CLOSE, OPEN, PAD, Reader, is_index, plain_brackets, unreadable
from runner.judge.verdict.own_words import is_doubtful, own
from runner.judge.verdict.positions import last_line, on_last_line
from runner.judge.verdict.tie_words import names_tie
from runner.types import Verdict, Winner

_SIDE = r"(?:(?i:assistant|model|response|answer)[ ]?)?[ABabＡＢ]"
_LABEL = (
    rf"{PAD}(?P<left>{_SIDE}){PAD}(?P<sign>[>＞]{{1,2}}|[<＜]{{1,2}}|[=＝]{{1,2}}|[≫≪≈]){PAD}(?P<right>{_SIDE}){PAD}"
)
_SIGN = re.compile(r"[<>=＜＞＝≫≪≈]")
_DOUBLE = re.compile(rf"{OPEN}(?:{_LABEL}|(?P<words>[^\[\]\n]{{2,60}})){CLOSE}")
_SINGLE = re.compile(rf"\[{_LABEL}\]")
_BARE = re.compile(rf"(?:\A|(?i:verdict)(?P<said>[^\n]{{0,80}})[\s:：]){_LABEL}[.。!]?{PAD}\Z")
# Text between "verdict" and a bare label that shows that the label is not the verdict, or not the only one.
_QUALIFIER = re.compile(r"[<>=＜＞＝≫≪]|\b(?:not|never|nor|or|if|unless|whether)\b|n['’]t\b", re.IGNORECASE)

_ANNOUNCED = re.compile(
    r"\b(?:verdict|final|decision|conclusion|judge?ment|winner)\b|最[终終]|结论|結論", re.IGNORECASE
)
_ANNOUNCED_CHARS = 80
_OTHER_TEXT = re.compile(r"\w")

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
        found = own(plain, found)
        if found:
            return _decide(plain, _without_legend(found), rule)
    bare = _bare(plain)
    if bare is not None:
        return Verdict(rule="arena_hard.bare", winner=bare)
    return unreadable("no_verdict", "no label such as [[A>B]]")


def _bare(text: str) -> Winner | None:
    """Return the winner of a label without brackets at the end of a text, or None."""
    line = last_line(text)
    if not _SIGN.search(line):
        return None
    bare = _BARE.search(line)
    return None if bare is None or _QUALIFIER.search(bare["said"] or "") else _winner(bare)


def _decide(text: str, found: Sequence[_Label], rule: str) -> Verdict:
    last = found if len(found) == 1 else on_last_line(text, found)
    winners = {_winner(match) for match in last}
    if len(winners) != 1:
        return unreadable(
            "conflict", "different labels on the last line with a label, or only the prompt's list of labels", rule
        )
    winner = winners.pop()
    others = [] if len(last) == len(found) else [match for match in found if _winner(match) != winner]
    if others:
        remark = not any(_is_final(text, match) for match in last) and any(_is_final(text, match) for match in others)
        if remark or is_doubtful(text, last[-1].span(), map(_winner, found)):
            return unreadable("conflict", "the last label is a remark on a different one", rule)
    if text.find("\n", last[-1].end()) >= 0 and _bare(text) not in (None, winner):
        return unreadable("conflict", "the label that ends the text is a different one", rule)
    return Verdict(rule=rule, winner=winner)


def _is_final(text: str, match: _Label) -> bool:
    """Return True if a label is announced as the verdict, or is alone on its line."""
    line = text.rfind("\n", 0, match.start()) + 1
    if _ANNOUNCED.search(text[max(line, match.start() - _ANNOUNCED_CHARS) : match.start()]):
        return True
    tail = text[match.end() : match.end() + _ANNOUNCED_CHARS].partition("\n")[0]
    return not _OTHER_TEXT.search(text[line : match.start()][-_ANNOUNCED_CHARS:] + tail)


def _winner(match: _Label) -> Winner | None:
    """Return the winner of a label, or None if it names the same side twice or has words that are no tie."""
    if match["left"] is None:
        return "tie" if names_tie(match["words"]) else None
    left, right = match["left"][-1] in _FIRST, match["right"][-1] in _FIRST
    if left == right:
        return None
    if match["sign"][0] in "=＝≈":
        return "tie"
    return "1" if left == (match["sign"][0] in ">＞≫") else "2"


def _without_legend(found: Sequence[_Label]) -> list[_Label]:
    """Return the labels without any repetition of the prompt's list: five labels close together in its order."""
    if len(found) < len(_LEGEND):
        return list(found)
    kept: list[_Label] = []
    names: list[str] = []
    for match in found:
        kept.append(match)
        names.append((match["left"] or " ")[-1] + (match["sign"] or ""))
        if tuple(names[-5:]) == _LEGEND and kept[-1].start() - kept[-5].start() < _LEGEND_LENGTH:
            del kept[-5:], names[-5:]
    return kept
