"""The scale of a judge's scores: `judge.scale`, else the scale of its format."""

from __future__ import annotations

from runner.config import JudgeConfig
from runner.judge.verdict.common import Scale

PAI_FORMATS = frozenset({"pai_single", "pai_pairwise"})

# The scales that formats define. The scale of PAI's formats depends on `pai.max_score`.
FORMAT_SCALES: dict[str, tuple[float, float]] = {
    "mt_bench_single": (1.0, 10.0),
    "alignbench": (1.0, 10.0),
    "auto_j_single": (1.0, 10.0),
    "judgelm": (1.0, 10.0),
    "prometheus": (1.0, 5.0),
}


def scale_of(judge: JudgeConfig) -> Scale:
    """Return the lowest and highest score of a judge, or None if any number is allowed or the top differs by sample."""
    if judge.scale is not None:
        return judge.scale
    name = judge.kind if judge.verdict is None else judge.verdict.format
    return _pai_scale(judge) if name in PAI_FORMATS else FORMAT_SCALES.get(name or "")


def _pai_scale(judge: JudgeConfig) -> Scale:
    """Return 1 to `pai.max_score`, by default 1 to 5."""
    try:
        return 1.0, float(judge.pai.get("max_score", 5))
    except (TypeError, ValueError):
        return None  # a template: the top differs by sample
