"""AlignBench's format: a critique that ends with a dict of scores, `{'事实正确性': 9, ..., '综合得分': 7}`.

The last dict that contains `综合得分` counts; its other keys are the dimensions. Without such a dict, the last
`综合得分：8` counts, which is CritiqueLLM's form. A different total after the dict or on its line is a conflict.
THUDM/AlignBench reads 7.5 as 7; this reader returns 7.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from runner.config import JudgeConfig
from runner.judge.verdict.common import Reader, Scale, ScoreMention, mention_of, unreadable
from runner.judge.verdict.loose_json import Ambiguous, Found, located_objects
from runner.judge.verdict.own_words import is_doubtful, is_reported, own
from runner.judge.verdict.positions import ONE_NUMBER, STATED, on_last_line
from runner.judge.verdict.scales import scale_of
from runner.judge.verdict.score_values import mention_in
from runner.types import Dimension, Verdict

TOTALS = ("综合得分", "綜合得分")

_TOTAL = re.compile(
    rf"[综綜]合得分(?:{STATED})?[*'\"“”‘’]{{0,4}}[ \t]{{0,4}}(?:[:：]|[是为為])[\s*'\"“”\[【]{{0,6}}{ONE_NUMBER}"
)


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of AlignBench's scores; the scale is 1 to 10 by default."""
    scale = scale_of(judge)
    return lambda text: _read(text, scale)


def _read(text: str, scale: Scale) -> Verdict:
    found = [
        each
        for each in located_objects(text)
        if each.data is not None and any(total in each.data for total in TOTALS)
        if not is_reported(text, each.start, each.end)
    ]
    if found:
        return _of_last_dict(text, found, scale)
    rule = "alignbench.total"
    totals = own(text, list(_TOTAL.finditer(text)))
    mentions = [mention_of(match) for match in on_last_line(text, totals)]
    if not mentions:
        return unreadable("no_verdict", "no dict with 综合得分")
    if len({(mention.value, mention.top) for mention in mentions}) > 1 or is_doubtful(
        text, totals[-1].span(), [match["value"] for match in totals]
    ):
        return unreadable("conflict", "different totals on the last line with a total", rule)
    return _from_mention(mentions[0], (), scale, rule)


def _of_last_dict(text: str, found: Sequence[Found], scale: Scale) -> Verdict:
    """Read the last dict, unless another total after it or on its line differs."""
    last = found[-1]
    verdict = _of_dict(last.data or {}, scale)
    if len(found) == 1 and text.find("合得分", last.end) < 0:
        return verdict
    line = text.rfind("\n", 0, last.start) + 1
    rivals = [_of_dict(each.data or {}, scale).score for each in found[:-1] if each.end > line]
    rivals += [mention_of(match).value for match in own(text, list(_TOTAL.finditer(text, last.end)))]
    if verdict.problem is None and (
        any(value is not None and value != verdict.score for value in rivals)
        or is_doubtful(text, (last.start, last.end), [_of_dict(each.data or {}, scale).score for each in found])
    ):
        return unreadable("conflict", "different totals in or after the last dict with 综合得分", verdict.rule)
    return verdict


def _of_dict(data: Mapping[str, Any], scale: Scale) -> Verdict:
    rule = "alignbench.dict"
    totals = [data[name] for name in TOTALS if name in data]
    if isinstance(totals[0], Ambiguous) or len(totals) > 1:
        return unreadable("conflict", "the dict has several 综合得分", rule)
    mention = mention_in(totals[0])
    if mention is None:
        return unreadable("no_verdict", f"综合得分 is not a number: {totals[0]!r:.80}", rule)
    named = [(name, mention_in(value)) for name, value in data.items() if name not in TOTALS]
    dimensions = tuple(Dimension(name, None, each.value) for name, each in named if each and each.fits(scale))
    return _from_mention(mention, dimensions, scale, rule)


def _from_mention(mention: ScoreMention, dimensions: tuple[Dimension, ...], scale: Scale, rule: str) -> Verdict:
    if not mention.fits(scale):
        return unreadable("out_of_scale", f"{mention} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mention.value, dimensions=dimensions)
