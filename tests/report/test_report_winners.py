"""Winners against human labels: every figure is recounted from the rows or compared with scikit-learn."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import make_run, row
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from runner.report import summarize
from runner.report.sections.winner_agreement import CELLS, agreement, position
from runner.report.stats.bootstrap import Resampler

WINNERS = ("1", "2", "tie", None)
UNIT = st.tuples(st.sampled_from(WINNERS), st.sampled_from(WINNERS), st.sampled_from([*WINNERS, "not judged"]))
Units = list[tuple[str | None, str | None, str | None]]


def cells(units: Units) -> np.ndarray:
    """Returns units in the report's cells, each its own cluster; None is a verdict that could not be read."""
    code = {"1": 0, "2": 1, "tie": 2, None: 3, "not judged": 4}
    sums = np.zeros((len(units), CELLS))
    for line, (human, original, swapped) in zip(sums, units, strict=True):
        line[code[human] * 25 + code[original] * 5 + code[swapped]] = 1
    return sums


def random_units(seed: int, n: int = 300) -> Units:
    generator = np.random.default_rng(seed)
    labels = generator.choice(["1", "2", "tie", ""], n, p=[0.45, 0.35, 0.1, 0.1])
    units: Units = []
    for human in labels:
        verdicts = [
            human if human and generator.random() < 0.6 else generator.choice(["1", "2", "tie", ""]) for _ in "ab"
        ]
        units.append((human or None, verdicts[0] or None, verdicts[1] or None))
    return units


def pooled(units: Units) -> list[tuple[str, str]]:
    """Returns label and verdict of each row that has both."""
    rows = [
        (human, verdict) for human, *verdicts in units for verdict in verdicts if human and verdict in ("1", "2", "tie")
    ]
    return [(human, verdict) for human, verdict in rows if verdict]


@pytest.mark.parametrize("seed", range(4))
def test_kappa_and_confusion_match_scikit_learn(seed: int) -> None:
    units = random_units(seed)
    found = agreement(Resampler(0).resample(cells(units)))
    rows = pooled(units)
    labels, verdicts = zip(*rows, strict=True)
    assert found.with_ties.kappa.value == pytest.approx(cohen_kappa_score(labels, verdicts), abs=1e-9)
    assert found.confusion.counts == confusion_matrix(labels, verdicts, labels=["1", "2", "tie"]).tolist()
    decided = [pair for pair in rows if "tie" not in pair]
    labels, verdicts = zip(*decided, strict=True)
    assert found.without_ties.kappa.value == pytest.approx(cohen_kappa_score(labels, verdicts), abs=1e-9)
    assert found.without_ties.accuracy.value == pytest.approx(
        np.mean(np.array(labels) == np.array(verdicts)), abs=1e-12
    )
    assert found.without_ties.accuracy.n == len(decided)


@pytest.mark.parametrize("seed", range(4))
def test_accuracies_match_a_recount(seed: int) -> None:
    units = random_units(seed)
    found = agreement(Resampler(0).resample(cells(units))).with_ties
    labelled = [unit for unit in units if unit[0]]
    orders = [[(human, unit[order]) for human, *unit in labelled if unit[order]] for order in (0, 1)]
    first, second = (sum(human == verdict for human, verdict in rows) / len(rows) for rows in orders)
    pairs = [unit for unit in labelled if unit[1] and unit[2]]
    assert found.accuracy_original.value == pytest.approx(first)
    assert found.accuracy_swapped.value == pytest.approx(second)
    assert found.accuracy_mean_of_orders.value == pytest.approx((first + second) / 2)
    assert found.accuracy_both_orders.count == sum(human == one == other for human, one, other in pairs)
    assert found.accuracy_both_orders.n == len(pairs)
    assert found.accuracy_both_orders.left_out == len(labelled) - len(pairs)
    assert found.accuracy_original.left_out == sum(original is None for _, original, _ in labelled)
    assert found.accuracy_orders_combined.count == sum(combined(one, other) == human for human, one, other in pairs)
    assert found.accuracy.count == sum(human == verdict for human, verdict in pooled(units))


def combined(one: str | None, other: str | None) -> str:
    """Returns the verdict of two votes: a tie adds nothing, opposite votes make a tie."""
    votes = Counter(vote for vote in (one, other) if vote != "tie")
    return next(iter(votes)) if len(votes) == 1 else "tie"


def test_position_bias_by_hand() -> None:
    """Six pairs favour the first answer, two the second; three agree, one has a tie, one is unread, one not swapped."""
    units: Units = [
        *[("1", "1", "2")] * 6,
        *[(None, "2", "1")] * 2,
        ("2", "1", "1"),
        ("1", "2", "2"),
        (None, "tie", "tie"),
        ("1", "1", "tie"),
        ("1", None, "1"),
        ("2", "1", "not judged"),
    ]
    found = position(Resampler(0).resample(cells(units)))
    assert found.balanced
    assert (found.orders_agree.count, found.orders_agree.n, found.orders_agree.left_out) == (3, 12, 1)
    assert (found.flips_to_first.count, found.flips_to_second.count, found.flips_with_tie.count) == (6, 2, 1)
    assert found.preference.value == pytest.approx(4 / 12)
    assert (found.first_shown_wins.count, found.first_shown_wins.n) == (12 + 1 + 1 + 1, 21)
    assert (found.people_first_share.count, found.people_first_share.n) == (8, 9)


def test_without_swap_the_share_is_that_of_answer_1() -> None:
    units: Units = [("2", "1", "not judged")] * 3 + [("1", "2", "not judged"), ("1", None, "not judged")]
    found = position(Resampler(0).resample(cells(units)))
    assert not found.balanced
    assert (found.first_shown_wins.count, found.first_shown_wins.n, found.first_shown_wins.left_out) == (3, 4, 1)
    assert found.orders_agree.value is None
    assert found.orders_agree.reason == "only one order was judged"


@settings(max_examples=80, deadline=None)
@given(st.lists(UNIT, min_size=1, max_size=12))
def test_all_figures_are_finite_or_have_a_reason(units: Units) -> None:
    resampled = Resampler(0, replicates=40).resample(cells(units))
    found = agreement(resampled)
    figures = [
        *(
            getattr(accuracies, name)
            for accuracies in (found.with_ties, found.without_ties)
            for name in accuracies.__struct_fields__
        ),
        found.orders_agree,
        *(
            value
            for name in position(resampled).__struct_fields__
            if hasattr(value := getattr(position(resampled), name), "reason")
        ),
    ]
    for figure in figures:
        assert figure.value is None or math.isfinite(figure.value)
        assert figure.value is not None or figure.reason
        assert figure.n >= 0 <= figure.left_out
        assert figure.count is None or 0 <= figure.count <= figure.n
    rows = [human for human, *verdicts in units for verdict in verdicts if human and verdict != "not judged"]
    assert found.with_ties.accuracy.n + found.with_ties.accuracy.left_out == len(rows)


def test_published_counts_of_llmbar(shared: Path, tmp_path: Path) -> None:
    """The figures equal the paper's own counts for its recorded judges, by subset."""
    source = shared / "replay"
    if not source.is_dir():
        pytest.skip("the recorded judges are not available")
    labels = {}
    for line in (shared / "datasets" / "llmbar" / "llmbar.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        labels[item["id"]] = (len(labels), item["label"])
    rows = []
    for line in (source / "llmbar_judges.jsonl").read_text(encoding="utf-8").splitlines():
        reply = json.loads(line)
        if reply["method"] != "Vanilla_NoRules":
            continue
        ordinal, label = labels[reply["id"]]
        shown = {"Output (a)": 1, "Output (b)": 2}.get(reply["text"].strip().rstrip("."))
        winner = None if shown is None else str(3 - shown if reply["swapped"] else shown)
        status = "unparsed" if winner is None else "ok"
        facts = {"winner": winner, "status": status, "human_winner": label, "category": reply["subset"]}
        rows.append(row(ordinal, reply["judge"], reply["swapped"], **facts))
    run = make_run(tmp_path / "run", rows)
    published = json.loads((source / "llmbar_published.json").read_text(encoding="utf-8"))
    checked = 0
    for judge in summarize(run, ["category"])["agreement"]:
        for group in judge["groups"]["category"]:
            if judge["judge"] is None:
                continue
            theirs = published[f"{judge['judge']} Vanilla_NoRules {group['value']}"]
            winners = group["comparison"]["winners"]
            for ours, name in (
                ("accuracy_original", "accuracy_original"),
                ("accuracy_swapped", "accuracy_swapped"),
                ("accuracy_both_orders", "both_right"),
            ):
                checked += compare(winners["with_ties"][ours], theirs[name])
            checked += compare(winners["orders_agree"], theirs["orders_agree"])
            mean = float(theirs["accuracy_average"].rstrip("%")) / 100
            assert winners["with_ties"]["accuracy_mean_of_orders"]["value"] == pytest.approx(mean)
    assert checked == 2 * 5 * 4


def compare(figure: dict[str, Any], published: str) -> bool:
    """Check that a figure has the published `count / n = share`."""
    count, n = (int(part) for part in published.partition("=")[0].split("/"))
    assert (figure["count"], figure["n"]) == (count, n)
    return True


def test_every_cell_is_a_unit() -> None:
    """With one unit in each of the hundred cells, read and unread rows add up."""
    units = list(itertools.product(WINNERS, [*WINNERS, "not judged"], [*WINNERS, "not judged"]))
    found = agreement(Resampler(0).resample(cells(units)))
    assert sum(map(sum, found.confusion.counts)) == 3 * 2 * 3 * 5
    assert sum(found.confusion.unread) == 3 * 2 * 5
