"""How often a key finding is shown by pure chance: runs in which verdicts, labels and groups have nothing in common.

    python benchmarks/null_findings.py [--rounds 300] [--seed 0] [--case NAME]

Each round draws a run without any effect, writes it as Parquet, and makes the findings with the report's own code. The
table shows the share of the rounds with each finding that claims an effect; chance may show it in at most 5 %. A dash
is a finding that was never shown; `true` marks an effect that the runs do have.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from report_runs import Row, make_run, row

from runner.report import summarize, summary
from runner.report.page.findings import findings
from runner.report.stats.bootstrap import Resampler

# The findings that claim an effect.
CLAIMS = (
    *("bias", "better_than_chance", "less_than_chance", "score_rises", "score_falls", "judges_differ"),
    *("judge_below_chance", "groups_differ", "mistake", "leader_certain"),
)
EXTRA = ("human_winner", "human_score", "human_label", "topic")
Draw = Callable[[np.random.Generator], tuple[list[Row], dict[int, str]]]


def scored(topics: int, questions: int, answers: int) -> Draw:
    """Draw random scores and human scores: `questions` per topic, `answers` per question."""

    def draw(generator: np.random.Generator) -> tuple[list[Row], dict[int, str]]:
        rows, texts = [], {}
        for n in range(topics * questions * answers):
            texts[n] = f"q{n // answers}"
            score, human = (float(one) for one in generator.integers(1, 6, size=2))
            rows.append(row(n, score=score, human_score=human, topic=f"t{n // (questions * answers)}"))
        return rows, texts

    return draw


def paired(judges: int, topics: int, questions: int, right: float, swap: bool = True) -> Draw:
    """Each verdict is right with the same probability, whatever the judge, the topic and the order."""

    def draw(generator: np.random.Generator) -> tuple[list[Row], dict[int, str]]:
        rows = []
        for n in range(topics * questions):
            human = str(generator.choice(["1", "2"]))
            for judge in range(judges):
                for swapped in (False, True) if swap else (False,):
                    winner = human if generator.random() < right else "12"[human == "1"]
                    more = {"human_winner": human, "topic": f"t{n // questions}"}
                    rows.append(row(n, f"j{judge}", swapped, winner=winner, **more))
        return rows, {}

    return draw


def leaders(models: int, questions: int, pairwise: bool) -> Draw:
    """All models are equally good."""

    def draw(generator: np.random.Generator) -> tuple[list[Row], dict[int, str]]:
        rows, texts = [], {}
        for n in range(questions * models):
            texts[n] = f"q{n // models}"
            first = n % models
            if pairwise:
                names = {"model1": f"m{first}", "model2": f"m{(first + 1) % models}"}
                rows.append(row(n, winner=str(generator.choice(["1", "2"])), **names))
            else:
                rows.append(row(n, score=float(generator.integers(1, 6)), model=f"m{first}"))
        return rows, texts

    return draw


CASES: dict[str, Draw] = {
    "scores, 40 topics of 2 questions of 6 answers": scored(40, 2, 6),
    "scores, 12 topics of 10 questions of 3 answers": scored(12, 10, 3),
    "scores, 2 topics of 30 questions of 1 answer": scored(2, 30, 1),
    "winners, 1 judge, 5 topics of 12 questions, 50 % right": paired(1, 5, 12, 0.5),
    "winners, 1 judge, 2 topics of 40 questions, 90 % right": paired(1, 2, 40, 0.9),
    "winners, 5 judges, 1 topic of 30 questions, 50 % right": paired(5, 1, 30, 0.5),
    "winners, 5 judges, 2 topics of 30 questions, 80 % right": paired(5, 2, 30, 0.8),
    "ranking, 2 equal models, 12 questions, scores": leaders(2, 12, False),
    "ranking, 2 equal models, 60 questions, scores": leaders(2, 60, False),
    "ranking, 6 equal models, 20 questions, scores": leaders(6, 20, False),
    "ranking, 2 equal models, 12 questions, pairs": leaders(2, 12, True),
    "ranking, 2 equal models, 20 questions, pairs": leaders(2, 20, True),
    "ranking, 5 equal models, 20 questions, pairs": leaders(5, 20, True),
}


# Resamples for the intervals, instead of the report's 2,000, to save time.
REPLICATES = 500


def main() -> None:
    """Parse the command line, simulate every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", default="", help="only the cases whose name contains this")
    options = parser.parse_args()
    summary.Resampler = partial(Resampler, replicates=REPLICATES)  # type: ignore[misc, assignment]
    print(f"| runs without an effect | {' | '.join(CLAIMS)} | s |")
    print("|---" * (len(CLAIMS) + 2) + "|")
    for name, draw in CASES.items():
        if options.case in name:
            started = time.perf_counter()
            shown = simulate(draw, options.rounds, options.seed)
            shares = [
                "true"
                if claim == "better_than_chance" and "50 % right" not in name and shown[claim]
                else f"{shown[claim] / options.rounds:.1%}"
                if shown[claim]
                else "-"
                for claim in CLAIMS
            ]
            print(f"| {name} | {' | '.join(shares)} | {time.perf_counter() - started:.0f} |", flush=True)


def simulate(draw: Draw, rounds: int, seed: int) -> Counter[str]:
    """Return how many rounds show each finding."""
    generator, shown = np.random.default_rng(seed), Counter[str]()
    for _ in range(rounds):
        rows, questions = draw(generator)
        with tempfile.TemporaryDirectory() as directory:
            models = [name for name in ("model", "model1", "model2") if name in rows[0]]
            run = make_run(Path(directory) / "run", rows, [*EXTRA, *models], questions or None)
            (run / "run.json").write_text(json.dumps({"state": "finished"}), encoding="utf-8")
            shown.update({one.kind for one in findings(summarize(run, ["topic"]))})
    return shown


if __name__ == "__main__":
    main()
