"""Runs of a report that show, one by one, everything that a page can say."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report_runs import Row, make_run, row
from shared_results import shared

from runner.report import summarize
from runner.report.models import Scales
from runner.results import CommonScale

EXTRA = ("human_winner", "human_score", "human_label", "model", "category")
PAIRS = (*EXTRA, "model1", "model2")
FIVE_AND_TEN = {"j": (1.0, 5.0), "k": (1.0, 10.0)}


def make_summary(rows: list[Row], group_by: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """Summarize a run; `more` goes to `make_run`, but `scales` and `human` (a scale) to `summarize`."""
    scales = Scales(human=more.pop("human", None), judges=more.pop("scales", {}))
    extra, journal = more.pop("extra", EXTRA), more.pop("journal", None)
    with tempfile.TemporaryDirectory() as directory:
        run = make_run(Path(directory) / "run", rows, extra, samples=bool(rows), **more)
        return summarize(run, group_by, scales, journal=journal)


def pair(n: int, winners: str, judge: str = "j", **more: Any) -> list[Row]:
    """Returns the rows of both orders; `-` is an order without a readable verdict."""
    return [
        row(n, judge, swapped, **({"status": "unparsed"} if name == "-" else {"winner": name}), **more)
        for swapped, name in zip((False, True), winners, strict=True)
    ]


def pairs(count: int, *winners: str, **more: Any) -> list[Row]:
    return [one for n in range(count) for one in pair(n, winners[n % len(winners)], **more)]


def labelled(right: int, count: int, judge: str = "j", **more: Any) -> list[Row]:
    """Returns rows with alternating labels of which `right` in `count` are right, evenly mixed over the labels."""
    rows = []
    for n in range(count):
        human, good = "12"[n % 2], (n // 2 * 37) % (count // 2) < right / 2
        rows.append(row(n, judge, winner=human if good else "21"[n % 2], human_winner=human, **more))
    return rows


def graded(score: Callable[[int], float], count: int = 60, **more: Any) -> list[Row]:
    return [row(n, score=score(n), human_score=float(n % 7), **more) for n in range(count)]


def grouped(right: dict[str, int], count: int) -> list[Row]:
    rows: list[Row] = []
    for group, good in right.items():
        rows += [{**one, "ordinal": one["ordinal"] + len(rows)} for one in labelled(good, count, category=group)]
    return [{**one, "sample_id": f"s{one['ordinal']}", "custom_id": f"{one['ordinal']}-j-o-0"} for one in rows]


def two_judges(first: int, second: int, count: int = 60) -> list[Row]:
    return [*labelled(first, count), *labelled(second, count, "k")]


def scored_panel(second: Callable[[int], float], count: int = 40) -> list[Row]:
    return [row(n, judge, score=float(n % 5) if judge == "j" else second(n)) for n in range(count) for judge in "jk"]


def repeated(judges: str, same: int, count: int = 20) -> list[Row]:
    return [
        row(n, judge, repeat=repeat, winner="1" if repeat == 0 or n < same else "2")
        for n in range(count)
        for judge in judges
        for repeat in range(2)
    ]


def by_model(scores: dict[str, Callable[[int], float]], count: int = 30) -> list[Row]:
    return [
        row(n * len(scores) + place, score=score(n), model=model)
        for n in range(count)
        for place, (model, score) in enumerate(scores.items())
    ]


@shared
def run_named(name: str) -> dict[str, Any]:
    """Returns the summary of one of the runs below."""
    if name in ENDED:
        base = copy.deepcopy(run_named("one order"))
        base["run"].update(ENDED[name])
        return base
    rows, group_by, more = RUNS[name]()
    return make_summary(rows, group_by, **more)


def contests(*results: tuple[str, str, str], count: int = 6) -> list[Row]:
    """Returns rows of two models each and the winner, all of them several times."""
    return [
        row(n, winner=winner, model1=first, model2=second)
        for n, (first, second, winner) in enumerate(one for _ in range(count) for one in results)
    ]


def in_both_orders(**more: Any) -> list[Row]:
    """Returns rows of two orders with alternating labels and rarely a mistake or a flip."""
    return [
        row(n, swapped=swapped, winner="21"[n % 2] if n % 5 == 0 and (swapped or n % 10) else "12"[n % 2],
            human_winner="12"[n % 2], **more)
        for n in range(40) for swapped in (False, True)
    ]  # fmt: skip


def _run(
    rows: list[Row], group_by: tuple[str, ...] = (), **more: Any
) -> tuple[list[Row], tuple[str, ...], dict[str, Any]]:
    return rows, group_by, more


STOPPED = {"state": "stopped", "exit_code": 4, "stop_reason": "max_time"}
# Runs that differ from "one order" only in run.json.
ENDED: dict[str, dict[str, Any]] = {
    "finished": {"state": "finished", "exit_code": 0},
    "tolerated": {"state": "finished", "exit_code": 1},
    "action needed": {"state": "stopped", "exit_code": 3},
    "out of time": {"state": "stopped", "exit_code": 4},
    "bug": {"state": "stopped", "exit_code": 70},
    "interrupted": {"state": "stopped", "exit_code": 130},
    "terminated": {"state": "stopped", "exit_code": 143},
    "real": {"emulated": False},
    "limited": {"limit": 3},
    "unlimited": {"limit": None},
    "limit of all": {"limit": 60},
    "retried": {"traffic": {"retries": 4, "throttled": 2}},
    "never retried": {"traffic": {"retries": 0, "throttled": 0}},
    "resumed": {
        "story": [{"lane": "online", "left": 60}, {"lane": "batch", "left": 2}],
        "route_reason": "2 open requests",
    },
    "lone remainder": {"story": [{"lane": "online", "left": 2}], "route_reason": "2 open requests"},
    "in one go": {"story": [{"lane": "online", "left": 60}], "route_reason": "60 open requests"},
}
FOUR = {n: f"q{n // 4}" for n in range(24)}
RISING: dict[str, Callable[[int], float]] = {"a": lambda n: 1.0 + n % 2, "b": lambda n: 4.0 + n % 2}
COMMON = CommonScale(FIVE_AND_TEN, frozenset({"score"}))
RUNS: dict[str, Callable[[], tuple[list[Row], tuple[str, ...], dict[str, Any]]]] = {
    "no rows": lambda: _run([]),
    "journal rows": lambda: _run([row(n, score=1.0) for n in range(3)], journal="", run={"state": "running"}),
    "both orders": lambda: _run(in_both_orders()),
    "panel of both orders": lambda: _run([*in_both_orders(judge="j"), *in_both_orders(judge="k")]),
    "on another scale": lambda: _run(graded(lambda n: float(n % 7 + n % 2)), scales={"j": (0, 10)}, human=(0, 6)),
    "on the same scale": lambda: _run(graded(lambda n: float(n % 7)), scales={"j": (0, 6)}, human=(0, 6)),
    "many models": lambda: _run([row(n, score=float(n % 5), model=f"m{n}") for n in range(53)]),
    "positions of models": lambda: _run(
        [{**one, "model": "ab"[one["ordinal"] % 2]} for one in scored_panel(lambda n: 2.0 * (n % 5))],
        scales=FIVE_AND_TEN, common=COMMON,
    ),
    "contests": lambda: _run(contests(("a", "b", "1"), ("a", "b", "2"), ("b", "c", "1"), ("c", "a", "1")), extra=PAIRS),
    "contests with ties": lambda: _run(contests(("a", "b", "1"), ("a", "b", "2"), ("a", "b", "tie")), extra=PAIRS),
    "islands": lambda: _run(
        contests(("a", "b", "1"), ("a", "b", "2"), ("c", "d", "1"), ("c", "d", "2")), extra=PAIRS
    ),
    "unbeaten": lambda: _run(contests(("a", "b", "1"), ("a", "c", "1"), ("b", "c", "1"), ("b", "c", "2")), extra=PAIRS),
    "beaten": lambda: _run(contests(("b", "a", "1"), ("c", "a", "1"), ("b", "c", "1"), ("b", "c", "2")), extra=PAIRS),
    "same human scores": lambda: _run([row(n, score=float(n % 4), human_score=2.0) for n in range(24)], questions=FOUR),
    "pairs in questions": lambda: _run(
        [row(n, score=float(n % 5), human_score=float(n % 3)) for n in range(24)], questions=FOUR
    ),
    "ranked by people": lambda: _run([{**one, "human_score": one["score"]} for one in by_model(RISING)]),
    "people see no difference": lambda: _run([{**one, "human_score": 1.0} for one in by_model(RISING)]),
    "people rank others": lambda: _run(
        [
            *({**one, "human_score": 1.0 if one["model"] == "a" else None} for one in by_model(RISING)),
            *(row(100 + n, status="failed", model="c", human_score=2.0) for n in range(5)),
        ]
    ),
    "judges of other samples": lambda: _run([row(n, "jk"[n % 2], score=float(n % 5)) for n in range(24)]),
    "judge of one score": lambda: _run(scored_panel(lambda n: 2.0)),
    "panel of one winner": lambda: _run([row(n, judge, winner="1") for n in range(20) for judge in "jk"]),
    "one score": lambda: _run(graded(lambda n: 2.0)),
    "one class": lambda: _run([row(n, winner="1", human_winner="1") for n in range(20)]),
    "one word": lambda: _run([row(n, label="a", human_label="a") for n in range(20)]),
    "many words": lambda: _run([row(n, label=f"w{n}", human_label=f"w{n}") for n in range(40)]),
    "repeated scores": lambda: _run(
        [row(n, repeat=repeat, score=float((n + repeat * (n % 3 == 0)) % 5)) for n in range(20) for repeat in range(2)]
    ),
    "never decided": lambda: _run(
        [row(n, j, winner=w, human_winner="1") for n in range(20) for j, w in (("j", "1"), ("k", "2"))]
    ),
    "hardly defined": lambda: _run(
        [row(n, winner="2" if n == 0 else "1", human_winner="1") for n in range(20)]
    ),
    "one row": lambda: _run([row(0, score=1.0)]),
    "all failed": lambda: _run([row(n, status="failed", error_type="timeout") for n in range(3)]),
    "some failed": lambda: _run(
        [row(n, **({"score": 1.0} if n > 2 else {"status": "failed", "error_type": "timeout"})) for n in range(9)]
    ),
    "another model": lambda: _run([row(n, score=1.0, served_model="gpt-9") for n in range(4)]),
    "the model itself": lambda: _run([row(n, score=1.0, served_model="m") for n in range(4)]),
    "no label": lambda: _run([row(n, winner="1") for n in range(4)]),
    "no label column": lambda: _run([row(n, winner="1") for n in range(4)], extra=("category",)),
    "words": lambda: _run([row(n, winner="1", human_label="model_a") for n in range(12)]),
    "scores for winners": lambda: _run([row(n, winner="1", human_score=4.0) for n in range(12)]),
    "winners for scores": lambda: _run([row(n, score=1.0, human_winner="1") for n in range(12)]),
    "words for labels": lambda: _run([row(n, label="ab"[n % 2], human_label="ab"[n % 2]) for n in range(40)]),
    "other words": lambda: _run([row(n, label="21"[n % 4 == 0], human_label="ab"[n % 2]) for n in range(60)]),
    "empty group": lambda: _run([row(n, winner="1") for n in range(4)], ("category",)),
    "one group": lambda: _run([row(n, winner="1", category="a") for n in range(4)], ("category",)),
    "positions": lambda: _run(scored_panel(lambda n: 2.0 * (n % 5)), scales=FIVE_AND_TEN, common=COMMON),
    "raw means": lambda: _run(scored_panel(lambda n: 2.0 * (n % 5)), scales=FIVE_AND_TEN),
    "same scale": lambda: _run(scored_panel(lambda n: float(n % 5)), scales=dict.fromkeys("jk", (1.0, 5.0))),
    "one order": lambda: _run(labelled(56, 60), run={"state": "finished"}),
    "one order so far": lambda: _run(labelled(56, 60), run=STOPPED),
    "swapped unread": lambda: _run(pairs(20, "1-", "2-")),
    "few pairs": lambda: _run(pairs(4, "12")),
    "first shown wins": lambda: _run(pairs(40, *["12"] * 7, "11")),
    "second shown wins": lambda: _run(pairs(40, *["21"] * 7, "11")),
    "unbiased": lambda: _run(pairs(40, "12", "21", "11", "22")),
    "labelled rows failed": lambda: _run(
        [row(n, status="failed", human_winner="1") if n < 5 else row(n, winner="1") for n in range(20)]
    ),
    "scored rows failed": lambda: _run(
        [row(n, status="failed", human_score=1.0) if n < 5 else row(n, score=1.0) for n in range(20)]
    ),
    "few right": lambda: _run(labelled(6, 8)),
    "few wrong": lambda: _run(labelled(0, 8)),
    "by chance": lambda: _run(labelled(30, 60)),
    "always wrong": lambda: _run(labelled(4, 60)),
    "twelve rows": lambda: _run(labelled(6, 12)),
    "scores rise": lambda: _run(graded(lambda n: float(n % 7 + n % 2))),
    "scores fall": lambda: _run(graded(lambda n: -float(n % 7 + n % 2))),
    "scores unrelated": lambda: _run(graded(lambda n: float(n * 7 % 11), 77)),
    "few scores": lambda: _run(graded(lambda n: float(n % 7), 8)),
    "tied panel": lambda: _run([*labelled(54, 60), *labelled(20, 60, "k")]),
    "unanimous panel": lambda: _run(two_judges(54, 54)),
    "judges differ": lambda: _run(two_judges(58, 32)),
    "judges alike": lambda: _run(
        [row(n, judge, winner="12"[n % 2 if (n + shift) % 5 else 0], human_winner="12"[n % 2])
         for n in range(60) for judge, shift in (("j", 0), ("k", 2))]
    ),
    "one below chance": lambda: _run(two_judges(58, 4)),
    "one mistake": lambda: _run(
        [row(n, winner="1" if n % 4 == 1 else "12"[n % 2], human_winner="12"[n % 2]) if n < 90
         else row(n, winner="tie", human_winner="1") for n in range(92)]
    ),
    "even mistakes": lambda: _run(labelled(40, 60)),
    "groups differ": lambda: _run(grouped({"a": 100, "b": 60}, 100), ("category",)),
    "groups alike": lambda: _run(grouped({"a": 70, "b": 64}, 100), ("category",)),
    "tiny groups": lambda: _run(grouped({"a": 6, "b": 0}, 6), ("category",)),
    "panel agrees": lambda: _run(scored_panel(lambda n: float(n % 5))),
    "panel uncertain": lambda: _run(scored_panel(lambda n: float(n % 5 if n % 4 else 2), 20)),
    "panel of four": lambda: _run(scored_panel(lambda n: float(n * 3 % 7), 4)),
    "panel disagrees": lambda: _run(scored_panel(lambda n: float(n * 3 % 7))),
    "stable repeats": lambda: _run(repeated("j", 20)),
    "two judges repeat": lambda: _run(repeated("jk", 14)),
    "contradictions": lambda: _run(
        [row(n, winner="1", score1=1.0, score2=2.0, contradiction=n % 2 == 0) for n in range(20)]
    ),
    "no contradictions": lambda: _run(
        [row(n, winner="1", score1=2.0, score2=1.0, contradiction=False) for n in range(9)]
    ),
    "clear leader": lambda: _run(by_model({"a": lambda n: 1.0 + n % 2, "b": lambda n: 4.0 + n % 2})),
    "close leader": lambda: _run(by_model({"a": lambda n: float(n % 5), "b": lambda n: n * 3 % 5 + 0.01})),
    "leader of five": lambda: _run(by_model({"a": lambda n: 1.0, "b": lambda n: 5.0 - n % 2}, 4)),
    "equal leaders": lambda: _run(by_model(dict.fromkeys("ab", lambda n: float(n % 5)))),
}  # fmt: skip
