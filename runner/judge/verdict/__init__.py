"""Reads verdicts from judges' replies; the readers of all formats are pure functions.

The configuration names the format; it is never guessed. Each format defines where in the text its verdict is. An
unreadable text there is `no_verdict`, two different verdicts are a `conflict`, a value off the scale is
`out_of_scale`. To add a format, write its module in `formats` and add it to `FORMATS`.
"""

from __future__ import annotations

from runner.config import JudgeConfig
from runner.errors import ConfigError
from runner.judge.verdict.common import Factory, Reader, unreadable
from runner.judge.verdict.formats import (
    alignbench,
    arena_hard,
    auto_j,
    json_keys,
    judgelm,
    mt_bench,
    output_ab,
    pai_pairwise,
    pai_single,
    pandalm,
    pattern,
    plain_number,
    prometheus,
)
from runner.judge.verdict.single_criterion import as_criterion
from runner.judge.verdict.thinking import may_think, stripper
from runner.types import Verdict

# Each format, with the function that makes its reader.
FORMATS: dict[str, Factory] = {
    "pai_single": pai_single.reader,
    "pai_pairwise": pai_pairwise.reader,
    "mt_bench_single": mt_bench.single_reader,
    "mt_bench_pair": mt_bench.pair_reader,
    "arena_hard": arena_hard.reader,
    "alignbench": alignbench.reader,
    "auto_j_single": auto_j.single_reader,
    "auto_j_pair": auto_j.pair_reader,
    "pandalm": pandalm.reader,
    "judgelm": judgelm.reader,
    "prometheus": prometheus.single_reader,
    "prometheus_pair": prometheus.pair_reader,
    "output_ab": output_ab.reader,
    "json": json_keys.reader,
    "first_number": plain_number.first_reader,
    "last_number": plain_number.last_reader,
}


def reader_for(judge: JudgeConfig) -> Reader:
    """Return the function that reads this judge's replies.

    Raises:
        ConfigError: the judge's verdict has neither a pattern nor a known format.
    """
    read = _factory(judge)(judge)
    if judge.dimension is not None:
        read = as_criterion(judge.dimension, read)

    marks = () if judge.verdict is None else judge.verdict.thinking
    strip = stripper(marks)

    def read_without_thinking(text: str) -> Verdict:
        if not (marks or may_think(text)):
            return read(text)
        spoken = strip(text)
        return read(spoken) if spoken.strip() else unreadable("no_verdict", "the reply has only thinking, no answer")

    return read_without_thinking


def _factory(judge: JudgeConfig) -> Factory:
    if judge.verdict is None and judge.kind in FORMATS:
        return FORMATS[judge.kind]
    if judge.verdict is not None and judge.verdict.pattern is not None:
        return pattern.reader
    name = judge.verdict.format if judge.verdict is not None else None
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise ConfigError(f"judge `{judge.name}`: verdict.format is {name!r}; expected one of {known}, or a pattern")
    return FORMATS[name]
