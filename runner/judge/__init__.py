"""Builds the request bodies of each judge and reads the verdicts from its replies."""

from __future__ import annotations

from runner.judge.lookalikes import Lookalike, find_lookalikes
from runner.judge.panel import Panel, Variant, reask_body, used_names
from runner.judge.template import Template, UnknownName, unknown_names
from runner.judge.verdict import FORMATS, reader_for
from runner.judge.verdict.scales import scale_of

__all__ = [
    "FORMATS",
    "Lookalike",
    "Panel",
    "Template",
    "UnknownName",
    "Variant",
    "find_lookalikes",
    "reader_for",
    "reask_body",
    "scale_of",
    "unknown_names",
    "used_names",
]
