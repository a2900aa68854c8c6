"""A panel of three in both orders, asked twice, over public pairs: every row once, every figure equal to a recount.

The recount is plain loops over the rows that PyArrow reads; it shares no code with the runner.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.report import summarize

JUDGES = ("harsh", "plain", "plus")
ORDERS = (False, True)
REPEATS = (0, 1)
PANEL = [
    {"name": "plus", "kind": "pai_pairwise", "model": "pai-judge-plus"},
    {"name": "plain", "kind": "pai_pairwise", "model": "pai-judge"},
    {
        "name": "harsh",
        "kind": "template",
        "model": "other-judge",
        "user": "{question}\n\nAnswer A:\n{answer1}\n\nAnswer B:\n{answer2}\n\n### Say [[A]], [[B]] or [[C]].",
        "verdict": "mt_bench_pair",
    },
]
MISHAPS = {"seed": 11, "noise": 0.1, "bias": 0.2, "faults": {"unparsable": 0.06, "refuse": 0.02, "500": 0.01}}

Line = dict[str, Any]
Pair = tuple[str | None, str | None]


class Judged:
    """A run over one of the datasets, as its files tell it."""

    def __init__(self, data: list[Line], directory: Path) -> None:
        self.data = data
        self.directory = directory
        self.rows: list[Line] = [
            row for part in sorted(directory.glob("results/*.parquet")) for row in pq.read_table(part).to_pylist()
        ]
        self.samples: list[Line] = pq.read_table(directory / "samples.parquet").to_pylist()
        self.summary = summarize(directory)
        self.by_sample: list[list[Line]] = [[] for _ in data]
        for row in self.rows:
            self.by_sample[row["ordinal"]].append(row)

    def pairs(self, judge: str) -> Iterator[tuple[str, Pair]]:
        """The label, and what both orders said, of each sample and repeat."""
        said = {(row["ordinal"], row["repeat"], row["swapped"]): row for row in self.rows if row["judge"] == judge}
        for ordinal, sample in enumerate(self.data):
            for repeat in REPEATS:
                first, second = (read(said[ordinal, repeat, swapped]) for swapped in ORDERS)
                yield sample["label"], (first, second)


def read(row: Line) -> str | None:
    return row["winner"] if row["status"] == "ok" else None


@pytest.fixture(params=["llmbar", "llmeval2_zh"])
def judged(
    request: pytest.FixtureRequest,
    shared: Path,
    tmp_path: Path,
    emulator_process: Callable[..., Any],
    cli_in: Callable[..., CompletedProcess[str]],
) -> Judged:
    """The dataset, judged through the console command and a socket."""
    path = shared / "datasets" / request.param / f"{request.param}.jsonl"
    if not path.exists():
        pytest.skip(f"{request.param} is not among the shared data")
    service = emulator_process(MISHAPS)
    try:
        document = {
            "dataset": {"path": str(path), "human_label": "label"},
            "judges": [{**judge, "swap": True, "repeats": 2, "reask": 0} for judge in PANEL],
            "service": {"base_url": service.url, "token_env": None, "limits": {"concurrency": 64}},
            "online": {"retry": {"base": 0.01, "ceiling": 0.05}},
            "output": {"directory": "out", "rows_per_part": 1500, "tolerate": 0.2},
        }
        (tmp_path / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")
        done = cli_in("run", "judge.yaml", cwd=tmp_path, timeout=120)
    finally:
        service.close()
    assert done.returncode == 0, done.stderr
    return Judged([json.loads(line) for line in path.read_text("utf-8").splitlines()], tmp_path / "out")


def check_rows(judged: Judged) -> None:
    names = {(row["sample_id"], row["judge"], row["swapped"], row["repeat"]) for row in judged.rows}
    expected = {
        (sample["id"], judge, swapped, repeat)
        for sample in judged.data
        for judge in JUDGES
        for swapped in ORDERS
        for repeat in REPEATS
    }
    assert names == expected
    assert len(judged.rows) == len(judged.data) * 2 * 2 * 3
    assert {row["status"] for row in judged.rows} == {"ok", "unparsed", "failed"}
    assert all(row["winner"] is None for row in judged.rows if row["status"] != "ok")
    assert [sample["sample_id"] for sample in judged.samples] == [sample["id"] for sample in judged.data]


def check_votes(judged: Judged) -> None:
    seen = set()
    for rows, sample in zip(judged.by_sample, judged.samples, strict=True):
        votes = [
            {"judge": row["judge"], "swapped": row["swapped"], "repeat": row["repeat"], "winner": row["winner"]}
            for judge in JUDGES
            for swapped in ORDERS
            for repeat in REPEATS
            for row in rows
            if (row["judge"], row["swapped"], row["repeat"]) == (judge, swapped, repeat) and row["status"] == "ok"
        ]
        assert [{key: vote[key] for key in votes[0]} for vote in sample["votes"]] == votes
        counted = {"1": 0, "2": 0, "tie": 0}
        for vote in votes:
            counted[vote["winner"]] += 1
        best = max(counted.values())
        leaders = [winner for winner, count in counted.items() if count == best]
        winner = leaders[0] if len(leaders) == 1 else "tie"
        assert (sample["winner"], sample["status"]) == (winner, "ok")
        assert sample["agreement"] == pytest.approx(counted[winner] / len(votes))
        steady = []
        for judge in JUDGES:
            for repeat in REPEATS:
                said = {v["swapped"]: v["winner"] for v in votes if v["judge"] == judge and v["repeat"] == repeat}
                if len(said) == 2:
                    steady.append(said[False] == said[True])
        assert sample["consistent"] is (all(steady) if steady else None)
        for name in ("score1", "score2"):
            scores = [row[name] for row in rows if row["status"] == "ok" and row[name] is not None]
            assert sample[name] == pytest.approx(sum(scores) / len(scores))
        seen |= {(winner, len(leaders) > 1), sample["consistent"]}
    assert {True, False, ("1", False), ("2", False), ("tie", True)} <= seen


def check_judges(judged: Judged) -> None:
    compared = {one["judge"]: one["overall"]["winners"] for one in judged.summary["agreement"]}
    steady = {one["judge"]: one["overall"]["position"] for one in judged.summary["consistency"]["judges"]}
    for judge in JUDGES:
        right = {False: 0, True: 0}
        unread = {False: 0, True: 0}
        both = agree = agree_labelled = first_shown = named = to_first = to_second = with_tie = whole = 0
        for label, pair in judged.pairs(judge):
            for swapped in ORDERS:
                unread[swapped] += pair[swapped] is None
                right[swapped] += pair[swapped] == label
            if None in pair:
                continue
            whole += 1
            original, exchanged = pair
            both += original == exchanged == label
            agree += original == exchanged
            agree_labelled += original == exchanged
            named += (original != "tie") + (exchanged != "tie")
            first_shown += (original == "1") + (exchanged == "2")
            to_first += pair == ("1", "2")
            to_second += pair == ("2", "1")
            with_tie += original != exchanged and "tie" in pair
        asked = len(judged.data) * len(REPEATS)
        found = compared[judge]["with_ties"]
        for key, counted, n in (
            ("accuracy_original", right[False], asked - unread[False]),
            ("accuracy_swapped", right[True], asked - unread[True]),
            ("accuracy", right[False] + right[True], 2 * asked - unread[False] - unread[True]),
            ("accuracy_both_orders", both, whole),
        ):
            assert (found[key]["count"], found[key]["n"]) == (counted, n), (judge, key)
            assert found[key]["value"] == pytest.approx(counted / n)
        halves = [right[swapped] / (asked - unread[swapped]) for swapped in ORDERS]
        assert found["accuracy_mean_of_orders"]["value"] == pytest.approx(sum(halves) / 2)
        assert found["accuracy"]["left_out"] == unread[False] + unread[True] > 0
        assert compared[judge]["orders_agree"]["count"] == agree_labelled
        for key, counted, n in (
            ("orders_agree", agree, whole),
            ("first_shown_wins", first_shown, named),
            ("flips_to_first", to_first, whole),
            ("flips_to_second", to_second, whole),
            ("flips_with_tie", with_tie, whole),
        ):
            assert (steady[judge][key]["count"], steady[judge][key]["n"]) == (counted, n), (judge, key)


def check_panel(judged: Judged) -> None:
    verdict = next(one for one in judged.summary["agreement"] if one["judge"] is None)["overall"]["winners"]
    right = [sample["winner"] == row["label"] for sample, row in zip(judged.samples, judged.data, strict=True)]
    assert (verdict["with_ties"]["accuracy"]["count"], verdict["with_ties"]["accuracy"]["n"]) == (
        sum(right),
        len(right),
    )
    votes = judged.summary["distributions"]["votes"]
    found = [sample["consistent"] for sample in judged.samples]
    assert (votes["consistent"], votes["inconsistent"]) == (found.count(True), found.count(False))
    alone = [len({vote["winner"] for vote in sample["votes"]}) == 1 for sample in judged.samples]
    assert (votes["unanimous"], votes["split"]) == (alone.count(True), alone.count(False))


def test_a_panel_over_real_data_is_what_a_recount_says(judged: Judged) -> None:
    """One test, so that no two workers run the same panel."""
    check_rows(judged)
    check_votes(judged)
    check_judges(judged)
    check_panel(judged)
