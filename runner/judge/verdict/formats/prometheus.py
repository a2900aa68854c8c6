"""Prometheus' formats: feedback that ends with `[RESULT] 4`, or with `[RESULT] A` if it compares two answers.

The last line with a `[RESULT]` counts (prometheus-eval also takes `[SCORE]`): the verdict directly follows the marker,
and different verdicts on that line are a conflict. Without a marker, a labelled score at the very end counts.
"""

from __future__ import annotations

import re

from runner.config import JudgeConfig
from runner.judge.verdict.common import PAD, Reader, Scale, mention_of, unreadable
from runner.judge.verdict.positions import ONE_NUMBER, last_line, on_last_line
from runner.judge.verdict.scales import scale_of
from runner.types import Verdict

_MARKER = r"[\[【](?:\s{0,2}|[*_]{1,2})(?i:result|score)(?:\s{0,2}|[*_]{1,2})[\]】]"
_BEFORE_VALUE = r"[\s*_`\"'“”:：=(（\[【]{0,12}+"
_NO_SECOND_NUMBER = r"(?![ \t]{0,2}(?:[½¼¾⅓⅔]|\d))"
_SCORE = re.compile(
    rf"{_MARKER}(?:{_BEFORE_VALUE}(?i:score|result|overall score)?{_BEFORE_VALUE}{ONE_NUMBER}{_NO_SECOND_NUMBER})?"
)
_LETTER = re.compile(
    rf"{_MARKER}(?:{_BEFORE_VALUE}(?:(?i:response|assistant|answer|model)[ \t]?)?(?P<side>[ABＡＢ])"
    r"(?![\w'’]|[ \t]?(?:and|or|[/&<>=＜＞＝]|[,，、|][ \t]?[ABＡＢ](?!\w))))?"
)
_HEADING = re.compile(r"[\s*#]{0,8}+[Ff]eedback[ *]{0,4}[:：][ *]{0,4}")
_LAST_SCORE = re.compile(
    rf"(?i:score|result|rating)(?: (?:is|of))?{PAD}[:：]?{_BEFORE_VALUE}{ONE_NUMBER}[\s*_`\"'”)）\]】.。]{{0,12}}\Z"
)


def single_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of Prometheus' scores; the scale is 1 to 5 by default."""
    scale = scale_of(judge)
    return lambda text: _read_score(text, scale)


def pair_reader(_: JudgeConfig) -> Reader:
    """Return the reader of Prometheus' pairwise verdicts; the format has no tie."""
    return _read_letter


def _read_score(text: str, scale: Scale) -> Verdict:
    found, rule = on_last_line(text, _SCORE.finditer(text)), "prometheus.result"
    marked = bool(found)
    if not marked:
        line = _LAST_SCORE.search(last_line(text))
        found, rule = [line] if line else [], "prometheus.label"
    mentions = [mention_of(match) for match in found if match["value"] is not None]
    if not mentions:
        return unreadable("no_verdict", "no [RESULT] followed by a number, and no score at the end")
    if len({(mention.value, mention.top) for mention in mentions}) > 1:
        return unreadable("conflict", "different scores on the last line with a [RESULT]", rule)
    if not mentions[0].fits(scale):
        return unreadable("out_of_scale", f"{mentions[0]} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mentions[0].value, explanation=_feedback(text, found[0]) if marked else None)


def _read_letter(text: str) -> Verdict:
    rule = "prometheus_pair.result"
    found = on_last_line(text, _LETTER.finditer(text))
    sides = {match["side"] in "AＡ" for match in found if match["side"]}
    if not sides:
        return unreadable("no_verdict", "no [RESULT] followed by A or B")
    if len(sides) > 1:
        return unreadable("conflict", "different verdicts on the last line with a [RESULT]", rule)
    return Verdict(rule=rule, winner="1" if sides.pop() else "2", explanation=_feedback(text, found[0]))


def _feedback(text: str, marker: re.Match[str]) -> str | None:
    """Return the text before the marker, without the "Feedback:" heading."""
    heading = _HEADING.match(text)
    return text[heading.end() if heading else 0 : marker.start()].strip() or None
