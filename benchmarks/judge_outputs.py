"""How well texts of real judges are parsed, compared with the verdicts that their sources record for them.

    python benchmarks/judge_outputs.py [--data ../shared/judge_outputs] [--show]

One line per file. `exact`: the same verdict as the source's, or none in both. `null`: no value although the source has
one. `wrong`: another value, or a value although the source has none. `--show` prints the last two. Two files are below
the sum: `hard` has texts that the sources' own parsers misread, and `pandalm_reason` has texts without the line in
which their format has its verdict.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from runner.config import JudgeConfig, VerdictConfig
from runner.judge import reader_for
from runner.types import Verdict

DATA = Path(__file__).parents[1] / ".." / "shared" / "judge_outputs"

# The verdict format of texts whose `format` starts with the key.
READ_AS: dict[str, dict[str, Any]] = {
    "mt_bench_single": {"format": "mt_bench_single"},
    "mt_bench_pair": {"format": "mt_bench_pair"},
    "search_arena_pair": {"format": "mt_bench_pair"},
    "arena_hard": {"format": "arena_hard"},
    "llmbar_cot": {"format": "output_ab"},
    "llmbar_short": {"format": "output_ab"},
    "llmbar_rating": {"format": "first_number"},
    "vicuna_pair_scores": {"format": "judgelm"},
    "gaokao_total_zh": {
        "pattern": r"【总分】[\s:：*]*+(\d++(?>(?:\.\d++)?))\s*+分?+(?!\s*+[+＋×/=])",
        "kind": "score",
        "pick": "last",
    },
    "pandalm_reason": {"format": "pandalm"},
}
UNBOUNDED = ("hard", "pandalm_reason")
VALUES = ("verdict", "score", "score1", "score2")


class Reading(NamedTuple):
    """One text: the row of its source, and the verdict that is parsed."""

    file: str
    row: dict[str, Any]
    verdict: Verdict

    @property
    def expected(self) -> tuple[Any, ...]:
        """Return the source's values."""
        return tuple(self.row["expected"][name] for name in VALUES)

    @property
    def found(self) -> tuple[Any, ...]:
        """Return the parsed values."""
        verdict = self.verdict
        return verdict.winner, verdict.score, verdict.score1, verdict.score2

    @property
    def outcome(self) -> str:
        """Return `exact`, `null` or `wrong`."""
        if self.found == self.expected:
            return "exact"
        return "null" if self.verdict.problem is not None else "wrong"


def readings(data: Path) -> Iterator[Reading]:
    """Parse every text of every file."""
    for path in sorted(data.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            scale = row["meta"].get("scale")
            read = _reader(_key(row["format"]), None if scale is None else tuple(scale))
            yield Reading(path.stem, row, read(row["text"]))


def share(found: list[Reading], outcome: str) -> float:
    """Return the share of one outcome."""
    return sum(each.outcome == outcome for each in found) / max(1, len(found))


def bounded(found: list[Reading]) -> list[Reading]:
    """Return the texts that count for the sum."""
    return [each for each in found if each.file not in UNBOUNDED]


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--show", action="store_true", help="print every text that is not exact")
    given = parser.parse_args()
    found = list(readings(given.data))
    if not found:
        sys.exit(f"{given.data}: no judge outputs found")
    print(f"{'file':<24}{'read as':<18}{'texts':>7}{'exact':>7}{'null':>7}{'wrong':>7}{'exact %':>10}{'wrong %':>9}")
    files = list(dict.fromkeys(each.file for each in found))
    for name in [file for file in files if file not in UNBOUNDED]:
        _line(name, [each for each in found if each.file == name])
    _line("sum", bounded(found))
    for name in [file for file in files if file in UNBOUNDED]:
        _line(name, [each for each in found if each.file == name])
    if given.show:
        _show(found)


def _line(name: str, found: list[Reading]) -> None:
    formats = {READ_AS[_key(each.row["format"])].get("format", "pattern") for each in found}
    counts = [sum(each.outcome == outcome for each in found) for outcome in ("exact", "null", "wrong")]
    numbers = "".join(f"{number:>7}" for number in (len(found), *counts))
    name_of_format = formats.pop() if len(formats) == 1 else "several"
    print(f"{name:<24}{name_of_format:<18}{numbers}{share(found, 'exact'):>10.2%}{share(found, 'wrong'):>9.2%}")


def _show(found: list[Reading]) -> None:
    for each in found:
        if each.outcome != "exact":
            verdict = each.verdict
            why = f"{verdict.problem}: {verdict.detail}" if verdict.problem else f"rule {verdict.rule}"
            text = each.row["text"]
            cut = text if len(text) <= 600 else f"{text[:250]} [...] {text[-350:]}"
            print(f"\n{each.row['id']}: {each.outcome}; source {each.expected}, read {each.found}; {why}\n  {cut!r}")


@lru_cache(maxsize=256)
def _reader(key: str, scale: tuple[float, float] | None) -> Any:
    verdict = VerdictConfig.model_validate(READ_AS[key])
    return reader_for(JudgeConfig(kind="template", user="x", verdict=verdict, scale=scale))


def _key(name: str) -> str:
    return next(key for key in READ_AS if name.startswith(key))


if __name__ == "__main__":
    main()
