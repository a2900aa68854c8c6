"""Reproduce the published counts of the LLMBar paper from its judges' texts, parsed as `output_ab`.

    python benchmarks/llmbar_replay.py [--shared ../shared] [--show]

For GPT-4 and ChatGPT, two prompts and five subsets: how often the judge is right in the dataset's order, in the swapped
order and in both, and how often the two orders agree, beside the counts of the paper's own pipeline. The list below it
has each text that the paper's pipeline parses differently, with the reason. It parses the recorded texts directly and
needs no network; llmbar_panel.py does the same with a complete run, against a server that replies with them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runner.config import JudgeConfig, VerdictConfig
from runner.judge import reader_for
from runner.judge.panel import swap_answers
from runner.types import Verdict

SHARED = Path(__file__).parents[1] / ".." / "shared"
COUNTS = ("accuracy_original", "accuracy_swapped", "both_right", "orders_agree")
OTHER = {"1": "2", "2": "1", None: None}


class Answer(NamedTuple):
    """A judge's text about a pair in one order, as it is parsed here and as the paper's pipeline parses it.

    Winners have the numbers of the dataset's order.
    """

    row: dict[str, Any]
    label: str
    verdict: Verdict
    paper: str | None


def paper_extraction(method: str, text: str) -> str | None:
    """Return the winner by princeton-nlp/LLMBar's evaluate.py: it searches the whole text for (a), then for (b).

    The patterns are those of its evaluators' config files, `Output \\(a\\) is better.` for CoT.
    """
    pattern = r"Output \({}\) is better." if method == "CoT" else r"Output \({}\)"
    text = text.strip()
    return next((number for number, side in (("1", "a"), ("2", "b")) if re.search(pattern.format(side), text)), None)


def answers(shared: Path) -> Iterator[Answer]:
    """Parse every recorded text."""
    verdict = VerdictConfig.model_validate({"format": "output_ab"})
    read = reader_for(JudgeConfig(kind="template", user="x", verdict=verdict))
    pairs = map(json.loads, (shared / "datasets/llmbar/llmbar.jsonl").read_text(encoding="utf-8").splitlines())
    labels = {pair["id"]: pair["label"] for pair in pairs}
    for line in (shared / "replay/llmbar_judges.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found, paper = read(row["text"]), paper_extraction(row["method"], row["text"])
        if row["swapped"]:
            found, paper = swap_answers(found), OTHER[paper]
        yield Answer(row, labels[row["id"]], found, paper)


def counts(found: Sequence[Answer], of_paper: bool = False) -> dict[str, int]:
    """Return the four counts of one judge, method and subset; an answer without a winner is never right."""
    by_pair: dict[str, dict[bool, str | None]] = defaultdict(dict)
    labels = {each.row["id"]: each.label for each in found}
    for each in found:
        by_pair[each.row["id"]][each.row["swapped"]] = each.paper if of_paper else each.verdict.winner
    rights = [(pair[False] == labels[name], pair[True] == labels[name]) for name, pair in by_pair.items()]
    return {
        "n": len(by_pair),
        "accuracy_original": sum(original for original, _ in rights),
        "accuracy_swapped": sum(swapped for _, swapped in rights),
        "both_right": sum(original and swapped for original, swapped in rights),
        "orders_agree": sum(pair[False] == pair[True] for pair in by_pair.values()),
    }


def groups(found: Sequence[Answer]) -> dict[str, list[Answer]]:
    """Group the answers by judge, method and subset, under the names of the published figures."""
    by_name: dict[str, list[Answer]] = defaultdict(list)
    for each in found:
        by_name[f"{each.row['judge']} {each.row['method']} {each.row['subset']}"].append(each)
    return by_name


def published(shared: Path) -> dict[str, dict[str, int]]:
    """Return the counts of the paper's pipeline."""
    data = json.loads((shared / "replay/llmbar_published.json").read_text(encoding="utf-8"))
    return {
        name: {"n": figures["n"], **{key: int(figures[key].split("/")[0]) for key in COUNTS}}
        for name, figures in data.items()
    }


def differing(found: Sequence[Answer]) -> list[tuple[Answer, str]]:
    """Return the texts that the paper's pipeline parses differently, each with the reason."""
    return [(each, _reason(each)) for each in found if each.verdict.winner != each.paper]


def main() -> None:
    """Parse the command line, and print the table and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--show", action="store_true", help="print the complete texts that are parsed differently")
    given = parser.parse_args()
    found = list(answers(given.shared))
    figures = published(given.shared)
    print("parsed here (published in brackets if it differs)")
    print(f"{'judge, method, subset':<36}{'n':>5}{'original':>12}{'swapped':>12}{'both right':>12}{'agree':>12}")
    for name, group in groups(found).items():
        ours = counts(group)
        cells = [_cell(ours[key], figures[name][key]) for key in COUNTS]
        print(f"{name:<36}{ours['n']:>5}" + "".join(f"{cell:>12}" for cell in cells))
    others = differing(found)
    print(f"\n{len(others)} of {len(found)} texts are parsed differently by the paper's pipeline")
    for each, reason in others:
        row = each.row
        order = "swapped" if row["swapped"] else "original"
        print(
            f"{row['judge']} {row['method']} {row['id']} {order}: {each.verdict.winner}, paper {each.paper}: {reason}"
        )
        if given.show:
            print(f"  {row['text']!r}")


def _cell(ours: int, theirs: int) -> str:
    return str(ours) if ours == theirs else f"{ours} ({theirs})"


def _reason(answer: Answer) -> str:
    verdict = answer.verdict
    if verdict.problem is not None:
        return f"{verdict.problem}: {verdict.detail}"
    if answer.paper is None:
        return f"the paper's pattern needs a character after `better`; {verdict.rule}"
    return f"the paper's pipeline takes (a) if it is anywhere in the text; {verdict.rule}"


if __name__ == "__main__":
    main()
