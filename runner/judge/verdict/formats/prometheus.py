"""Prometheus' formats: feedback that ends with `[RESULT] 4`, or with `[RESULT] A` if it compares two answers.

The last line with a `[RESULT]` counts (prometheus-eval also takes `[SCORE]`): the verdict directly follows the marker,
and different verdicts on that line are a conflict. Without a marker, a labelled score at the very end counts.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from runner.config import JudgeConfig
from runner.judge.verdict.common import PAD, Reader, Scale, before, mention_of, unreadable
from runner.judge.verdict.own_words import is_discounted, is_doubtful, own
from runner.judge.verdict.positions import ONE_NUMBER, last_line, on_last_line
from runner.judge.verdict.scales import scale_of
from runner.judge.verdict.tie_words import names_tie
from runner.types import Verdict, Winner

_MARKER = r"[\[【](?:\s{0,2}|[*_]{1,2})(?i:result|score)(?:\s{0,2}|[*_]{1,2})[\]】]"
_BEFORE_VALUE = r"[\s*_`\"'“”:：=(（\[【]{0,12}+"
_NO_SECOND_NUMBER = r"(?![ \t]{0,2}(?:[½¼¾⅓⅔]|\d))"
_SCORE = re.compile(
    rf"{_MARKER}(?:{_BEFORE_VALUE}(?i:score|result|overall score)?{_BEFORE_VALUE}{ONE_NUMBER}{_NO_SECOND_NUMBER})?"
)
_LETTER = re.compile(
    rf"{_MARKER}(?:{_BEFORE_VALUE}(?:(?i:response|assistant|answer|model)[ \t]?)?(?P<side>[ABＡＢ])"
    r"(?![\w'’]|[ \t]?(?:[/&<>=＜＞＝]|[,，、|][ \t]?[ABＡＢ](?!\w)))(?=(?P<more>[^\n]{0,40}))"
    r"|[\s*_`\"'“”:：=]{0,12}(?=(?P<words>[^\n]{2,60})))?"
)
# Text after a letter with which the letter is a verdict: "A is better" is one, "A tie" and "A and B" are not.
_AFTER_LETTER = re.compile(
    r"[^\w\n]*(?:\Z|[A-Z](?=[A-Za-z])|[一-鿿ぁ-ヿ가-힣0-9]|(?:is|was|wins?|won|because|since|as|over|due|for|with|by|has|gives|it|the"
    r"|than)\b"
    r"|(?:clearly|slightly|marginally|narrowly|easily)\b[ \t]?(?:better\b)?[ \t]?(?:\Z|[^\w\s]|than\b|because\b)"
    r"|better[ \t](?:than|because)\b)"
    r"|[ \t]*[^\w\s]"
)
_BOTH_AFTER = re.compile(r"[^\w\n]*(?:and|or|和|与|與|或|及)(?![A-Za-z])")
_CORRECTS = re.compile(
    r"\b(?:no|wait|actually|correct(?:ion|ed)|revised?|rather|on (?:second thought|reflection)|final(?:ly)?|instead)\b"
    r"[^\n]{0,12}\Z"
    r"|(?:更正|修正|不[对對]|最[终終])[^\n]{0,12}\Z",
    re.IGNORECASE,
)
_CORRECTION_CHARS = 60
_CLAUSE_END = re.compile(r"[.。!！,，;；:：(（\[]")
_HEADING = re.compile(r"[\s*#]{0,8}+[Ff]eedback[ *]{0,4}[:：][ *]{0,4}")
_LAST_SCORE = re.compile(
    rf"(?i:score|result|rating)(?: (?:is|of))?{PAD}[:：]?{_BEFORE_VALUE}{ONE_NUMBER}[\s*_`\"'”)）\]】.。]{{0,12}}\Z"
)


def single_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of Prometheus' scores; the scale is 1 to 5 by default."""
    scale = scale_of(judge)
    return lambda text: _read_score(text, scale)


def pair_reader(_: JudgeConfig) -> Reader:
    """Return the reader of Prometheus' pairwise verdicts. The prompt has no tie, but some judges write one."""
    return _read_letter


def _read_score(text: str, scale: Scale) -> Verdict:
    marked = own(text, list(_SCORE.finditer(text)))
    found, rule = marked if len(marked) == 1 else on_last_line(text, marked), "prometheus.result"
    # Without a marker, or if more lines follow it.
    closing = _LAST_SCORE.search(last_line(text)) if not found or text.find("\n", found[-1].end()) >= 0 else None
    if not marked:
        found, rule = [closing] if closing else [], "prometheus.label"
    mentions = [mention_of(match) for match in found if match["value"] is not None]
    if not mentions:
        return unreadable("no_verdict", "no [RESULT] followed by a number, and no score at the end")
    if len(marked) > 1 and (
        len({(mention.value, mention.top) for mention in mentions}) > 1
        or _is_unclear(text, marked, [match["value"] for match in marked])
    ):
        return unreadable("conflict", "different scores after [RESULT]", rule)
    if closing is not None and mention_of(closing).value != mentions[0].value:
        return unreadable("conflict", "the score at the end differs from that after [RESULT]", rule)
    if not mentions[0].fits(scale):
        return unreadable("out_of_scale", f"{mentions[0]} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mentions[0].value, explanation=_feedback(text, found[0]) if marked else None)


def _read_letter(text: str) -> Verdict:
    rule = "prometheus_pair.result"
    marked = own(text, list(_LETTER.finditer(text)))
    found = on_last_line(text, marked)
    winners = {winner for match in found if (winner := _winner(match))}
    if not winners:
        return unreadable("no_verdict", "no [RESULT] followed by A, B or a tie")
    if len(winners) > 1 or (len(marked) > 1 and _is_unclear(text, marked, list(map(_winner, marked)))):
        return unreadable("conflict", "different verdicts after [RESULT]", rule)
    return Verdict(rule=rule, winner=winners.pop(), explanation=_feedback(text, found[0]))


def _is_unclear(text: str, marked: list[re.Match[str]], meanings: Sequence[Hashable]) -> bool:
    """Return True if the last marker is doubtful, or others have different values and may count as well.

    An earlier one does not count if it is quoted or an aside, or if the last one corrects it: "No: [RESULT] 3".
    """
    last = marked[-1]
    if is_doubtful(text, last.span(), meanings):
        return True
    others = [match for match, meaning in zip(marked, meanings, strict=True) if meaning not in (None, meanings[-1])]
    if not others or _CORRECTS.search(before(text, last.start(), _CORRECTION_CHARS)):
        return False
    return not all(is_discounted(text, *match.span()) for match in others)


def _winner(match: re.Match[str]) -> Winner | None:
    """Return the winner after a marker, or None; "A tie" is a tie, not A."""
    side, more = match["side"], match["more"]
    if side is None:
        return "tie" if names_tie(_CLAUSE_END.split(match["words"] or "")[0]) else None
    if names_tie(_CLAUSE_END.split(side + more)[0]):
        return "tie"
    if _BOTH_AFTER.match(more) or not _AFTER_LETTER.match(more):
        return None
    return "1" if side in "AＡ" else "2"


def _feedback(text: str, marker: re.Match[str]) -> str | None:
    """Return the text before the marker, without the "Feedback:" heading."""
    heading = _HEADING.match(text)
    return text[heading.end() if heading else 0 : marker.start()].strip() or None
