"""AlignBench's format: a critique that ends with a dict of scores, `{'事实正确性': 9, ..., '综合得分': 7}`.

The last dict that contains `综合得分` counts; its other keys are the dimensions. Without such a dict, the last
`综合得分：8` counts, which is CritiqueLLM's form. THUDM/AlignBench reads 7.5 as 7; this reader returns 7.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.config import JudgeConfig
from runner.judge.verdict.common import Reader, Scale, ScoreMention, mention_of, unreadable
from runner.judge.verdict.loose_json import Ambiguous, objects
from runner.judge.verdict.positions import ONE_NUMBER, on_last_line
from runner.judge.verdict.scales import scale_of
from runner.judge.verdict.score_values import mention_in
from runner.types import Dimension, Verdict

TOTALS = ("综合得分", "綜合得分")

_TOTAL = re.compile(rf"[综綜]合得分[*'\"“”‘’]{{0,4}}[ \t]{{0,4}}(?:[:：]|[是为為])[\s*'\"“”\[【]{{0,6}}{ONE_NUMBER}")


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of AlignBench's scores; the scale is 1 to 10 by default."""
    scale = scale_of(judge)
    return lambda text: _read(text, scale)


def _read(text: str, scale: Scale) -> Verdict:
    dicts = [found for found in objects(text) if any(total in found for total in TOTALS)]
    if dicts:
        return _of_dict(dicts[-1], scale)
    rule = "alignbench.total"
    mentions = [mention_of(match) for match in on_last_line(text, _TOTAL.finditer(text))]
    if len({(mention.value, mention.top) for mention in mentions}) > 1:
        return unreadable("conflict", "different totals on the last line with a total", rule)
    if not mentions:
        return unreadable("no_verdict", "no dict with 综合得分")
    return _from_mention(mentions[0], (), scale, rule)


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
