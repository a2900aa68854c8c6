"""Prometheus' two texts: a feedback that ends on `[RESULT] 4`, or on `[RESULT] A` where it compares two answers.

The place is the last line with a `[RESULT]` (prometheus-eval also takes `[SCORE]`); what stands right behind it
counts, and different verdicts on that line are a conflict. Without any, a score behind its label at the very end does.
"""

from __future__ import annotations

import re

from runner.config import JudgeConfig
from runner.judge.verdict.common import PAD, Reader, Scale, mark_of, unreadable
from runner.judge.verdict.positions import ONE_NUMBER, last_line, on_last_line
from runner.judge.verdict.scales import scale_of
from runner.types import Verdict

_MARKER = r"[\[【](?:\s{0,2}|[*_]{1,2})(?i:result|score)(?:\s{0,2}|[*_]{1,2})[\]】]"
_BEHIND = r"[\s*_`\"'“”:：=(（\[【]{0,12}+"
_ALONE = r"(?![ \t]{0,2}(?:[½¼¾⅓⅔]|\d))"
_SCORE = re.compile(rf"{_MARKER}(?:{_BEHIND}(?i:score|result|overall score)?{_BEHIND}{ONE_NUMBER}{_ALONE})?")
_LETTER = re.compile(
    rf"{_MARKER}(?:{_BEHIND}(?:(?i:response|assistant|answer|model)[ \t]?)?(?P<side>[ABＡＢ])"
    r"(?![\w'’]|[ \t]?(?:and|or|[/&<>=＜＞＝]|[,，、|][ \t]?[ABＡＢ](?!\w))))?"
)
_HEADING = re.compile(r"[\s*#]{0,8}+[Ff]eedback[ *]{0,4}[:：][ *]{0,4}")
_LAST_SCORE = re.compile(
    rf"(?i:score|result|rating)(?: (?:is|of))?{PAD}[:：]?{_BEHIND}{ONE_NUMBER}[\s*_`\"'”)）\]】.。]{{0,12}}\Z"
)


def single_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of Prometheus' scores, 1 to 5 unless the judge has a scale."""
    scale = scale_of(judge)
    return lambda text: _read_score(text, scale)


def pair_reader(_: JudgeConfig) -> Reader:
    """Return the reader of Prometheus' verdicts on two answers; it knows no tie."""
    return _read_letter


def _read_score(text: str, scale: Scale) -> Verdict:
    found, rule = on_last_line(text, _SCORE.finditer(text)), "prometheus.result"
    marked = bool(found)
    if not marked:
        line = _LAST_SCORE.search(last_line(text))
        found, rule = [line] if line else [], "prometheus.label"
    marks = [mark_of(match) for match in found if match["value"] is not None]
    if not marks:
        return unreadable("no_verdict", "no [RESULT] with a number behind it, and no score at the end")
    if len({(mark.value, mark.top) for mark in marks}) > 1:
        return unreadable("conflict", "different scores on the last line with a [RESULT]", rule)
    if not marks[0].fits(scale):
        return unreadable("out_of_scale", f"{marks[0]} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=marks[0].value, explanation=_feedback(text, found[0]) if marked else None)


def _read_letter(text: str) -> Verdict:
    rule = "prometheus_pair.result"
    found = on_last_line(text, _LETTER.finditer(text))
    sides = {match["side"] in "AＡ" for match in found if match["side"]}
    if not sides:
        return unreadable("no_verdict", "no [RESULT] with an A or a B behind it")
    if len(sides) > 1:
        return unreadable("conflict", "different verdicts on the last line with a [RESULT]", rule)
    return Verdict(rule=rule, winner="1" if sides.pop() else "2", explanation=_feedback(text, found[0]))


def _feedback(text: str, marker: re.Match[str]) -> str | None:
    """What stands before the marker, without its heading."""
    heading = _HEADING.match(text)
    return text[heading.end() if heading else 0 : marker.start()].strip() or None
