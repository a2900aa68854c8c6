"""The scales of a panel: whether the judges' scores can be averaged as they are, as positions, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from runner.config import JudgeConfig
from runner.errors import ConfigError
from runner.judge import scale_of
from runner.results import CommonScale

_DIMENSION_FORMATS = ("pai_single", "pai_pairwise", "alignbench")


def common_scale(judges: Sequence[JudgeConfig]) -> CommonScale | None:
    """Returns which scores are averaged as positions on each judge's own scale; None if all are averaged as they are.

    Raises:
        ConfigError: judges whose scores would be averaged may use different scales, and one of them is unknown.
    """
    voters = [judge for judge in judges if judge.dimension is None]
    columns = set()
    if _scales_differ([judge for judge in voters if judge.yields_single_score]):
        columns.add("score")
    if _scales_differ([judge for judge in voters if judge.yields_pair_of_scores]):
        columns |= {"score1", "score2"}
    detailed = [judge for judge in voters if _yields_dimensions(judge)]
    all_dimensions = _scales_differ(detailed)
    names = {
        name
        for name in dict.fromkeys(judge.dimension for judge in judges if judge.dimension is not None)
        if _scales_differ([*detailed, *(judge for judge in judges if judge.dimension == name)])
    }
    if not (columns or all_dimensions or names):
        return None
    known = {judge.name: scale for judge in judges if (scale := scale_of(judge)) is not None}
    return CommonScale(known, frozenset(columns), all_dimensions, frozenset(names))


def describe_scales(judges: Iterable[JudgeConfig], common: CommonScale) -> str:
    """Returns one line that says which scores are positions, and why."""
    scales = ", ".join(
        f"{judge.name} {low:g} to {high:g}"
        for judge in judges
        if judge.yields_score and (scale := common.scales.get(judge.name)) is not None
        for low, high in (scale,)
    )
    names = ", ".join(common.names)
    return (
        f"the judges use different scales ({scales}): in samples.parquet, {names} "
        f"{'is' if len(common.names) == 1 else 'are'} made of positions on each judge's own scale, from 0 to 1"
    )


def _yields_dimensions(judge: JudgeConfig) -> bool:
    if judge.verdict is None:
        return judge.is_builtin
    return judge.verdict.format in _DIMENSION_FORMATS or judge.verdict.dimensions is not None


def _scales_differ(judges: Sequence[JudgeConfig]) -> bool:
    """Returns True if the judges have several scales; raises ConfigError if that is not known."""
    unknown = [judge for judge in judges if scale_of(judge) is None]
    if len(judges) < 2 or not unknown:
        return len({scale_of(judge) for judge in judges}) > 1
    if len(unknown) == len(judges) and len(set(map(_question, judges))) == 1:
        return False  # the same prompt, read in the same way: whatever the scale is, all of them use it
    names = ", ".join(f"'{judge.name}'" for judge in unknown)
    known = ", ".join(_with_scale(judges))
    beside = f", and {known}" if known else ""
    raise ConfigError(
        f"judges: scores of different scales cannot be averaged: the scale of {names} is unknown{beside}; "
        "set scale: [lowest, highest] at each of them"
    )


def _with_scale(judges: Sequence[JudgeConfig]) -> Iterator[str]:
    for judge in judges:
        if (scale := scale_of(judge)) is not None:
            yield f"'{judge.name}' scores from {scale[0]:g} to {scale[1]:g}"


def _question(judge: JudgeConfig) -> str:
    """Returns everything that decides a judge's scale."""
    verdict = None if judge.verdict is None else judge.verdict.model_dump_json()
    return repr((judge.kind, judge.system, judge.user, verdict, sorted(judge.pai.items())))
