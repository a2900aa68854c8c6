"""The scale on which a judge scores: what the YAML says, else its format's own."""

from __future__ import annotations

from runner.config import JudgeConfig
from runner.judge.verdict.common import Scale

OF_PAI = frozenset({"pai_single", "pai_pairwise"})

OWN: dict[str, tuple[float, float]] = {
    "mt_bench_single": (1.0, 10.0),
    "alignbench": (1.0, 10.0),
    "auto_j_single": (1.0, 10.0),
    "judgelm": (1.0, 10.0),
    "prometheus": (1.0, 5.0),
}
"""The scales that formats define. (PAI's depends on what is asked for.)"""


def scale_of(judge: JudgeConfig) -> Scale:
    """Return the lowest and highest score of a judge; None where any number will do, or each sample has its own top."""
    if judge.scale is not None:
        return judge.scale
    name = judge.kind if judge.verdict is None else judge.verdict.format
    return _of_pai(judge) if name in OF_PAI else OWN.get(name or "")


def _of_pai(judge: JudgeConfig) -> Scale:
    """1 to `pai.max_score`, or 1 to 5."""
    try:
        return 1.0, float(judge.pai.get("max_score", 5))
    except (TypeError, ValueError):
        return None  # a template: each sample has its own top
