"""AlignBench's text: a critique that ends on a dict of scores, `{'事实正确性': 9, ..., '综合得分': 7}`.

The place is the last dict that holds `综合得分`; its other keys are the dimensions. Without such a dict, the last
`综合得分：8` counts, which is how CritiqueLLM writes it. Where THUDM/AlignBench makes 7 of 7.5, it is 7.5 here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.config import JudgeConfig
from runner.judge.verdict.common import Reader, Scale, ScoreMention, mark_of, unreadable
from runner.judge.verdict.loose_json import Ambiguous, objects
from runner.judge.verdict.positions import ONE_NUMBER, on_last_line
from runner.judge.verdict.scales import scale_of
from runner.judge.verdict.score_values import mark_in
from runner.types import Dimension, Verdict

TOTALS = ("综合得分", "綜合得分")

_TOTAL = re.compile(rf"[综綜]合得分[*'\"“”‘’]{{0,4}}[ \t]{{0,4}}(?:[:：]|[是为為])[\s*'\"“”\[【]{{0,6}}{ONE_NUMBER}")


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of AlignBench's scores, 1 to 10 unless the judge has a scale."""
    scale = scale_of(judge)
    return lambda text: _read(text, scale)


def _read(text: str, scale: Scale) -> Verdict:
    dicts = [found for found in objects(text) if any(total in found for total in TOTALS)]
    if dicts:
        return _of_dict(dicts[-1], scale)
    rule = "alignbench.total"
    marks = [mark_of(match) for match in on_last_line(text, _TOTAL.finditer(text))]
    if len({(mark.value, mark.top) for mark in marks}) > 1:
        return unreadable("conflict", "different totals on the last line that has any", rule)
    if not marks:
        return unreadable("no_verdict", "no dict with 综合得分")
    return _of_mark(marks[0], (), scale, rule)


def _of_dict(data: Mapping[str, Any], scale: Scale) -> Verdict:
    rule = "alignbench.dict"
    totals = [data[name] for name in TOTALS if name in data]
    if isinstance(totals[0], Ambiguous) or len(totals) > 1:
        return unreadable("conflict", "the dict has several 综合得分", rule)
    mark = mark_in(totals[0])
    if mark is None:
        return unreadable("no_verdict", f"综合得分 is not a number: {totals[0]!r:.80}", rule)
    named = [(name, mark_in(value)) for name, value in data.items() if name not in TOTALS]
    dimensions = tuple(Dimension(name, None, each.value) for name, each in named if each and each.fits(scale))
    return _of_mark(mark, dimensions, scale, rule)


def _of_mark(mark: ScoreMention, dimensions: tuple[Dimension, ...], scale: Scale, rule: str) -> Verdict:
    if not mark.fits(scale):
        return unreadable("out_of_scale", f"{mark} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mark.value, dimensions=dimensions)
