"""Key findings: each kind has a run that must show it and a run that must not; the numbers in between are exact."""

from __future__ import annotations

from typing import Any

import pytest
from report_cases import RUNS, make_summary, pairs, run_named
from report_runs import Row, row

from runner.report.page import formatting
from runner.report.page.finding import KINDS
from runner.report.page.findings import MAX_FINDINGS, findings


def found_in(summary: dict[str, Any]) -> dict[str, str]:
    """Returns the texts of the findings by kind, with ordinary spaces."""
    found = findings(summary)
    assert 0 < len(found) <= MAX_FINDINGS
    assert all(one.kind in KINDS and one.tone in ("warn", "good", "note") for one in found)
    return {one.kind: one.text.replace("\N{NO-BREAK SPACE}", " ") for one in found}


def texts_of(rows: list[Row], group_by: tuple[str, ...] = (), **more: Any) -> dict[str, str]:
    return found_in(make_summary(rows, group_by, **more))


# For each kind the runs that must have the finding, and those that must not.
EXPECTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no_rows": (("no rows",), ("one row",)),
    "nothing_read": (("all failed",), ("some failed", "one row")),
    "all_read": (("one row", "one order"), ("some failed", "all failed")),
    "some_unread": (("some failed", "swapped unread"), ("one row", "all failed")),
    "served_model": (("another model",), ("the model itself", "one row")),
    "labels_missing": (("no label",), ("no label column", "one order")),
    "labels_not_compared": (("words",), ("words for labels", "one order", "no label")),
    "labels_of_other_kind": (("scores for winners", "winners for scores"), ("one order", "scores rise", "words")),
    "group_empty": (("empty group",), ("one group", "no label")),
    "positions": (("positions",), ("same scale", "raw means", "panel agrees")),
    "raw_scales_mixed": (("raw means",), ("same scale", "positions", "panel agrees")),
    "one_order": (("one order", "no label"), ("one order so far", "unbiased", "swapped unread", "scores rise")),
    "one_order_so_far": (("one order so far",), ("one order", "unbiased")),
    "orders_unread": (("swapped unread",), ("unbiased", "one order", "few pairs")),
    "orders_few": (("few pairs",), ("unbiased", "one order", "swapped unread")),
    "no_bias": (("unbiased",), ("first shown wins", "one order", "few pairs", "swapped unread")),
    "bias": (("first shown wins", "second shown wins"), ("unbiased", "few pairs")),
    "not_comparable": (("labelled rows failed", "scored rows failed"), ("one order", "scores rise", "no label")),
    "beyond_chance_untested": (("few right",), ("one order", "by chance", "few wrong")),
    "no_better_than_chance": (("few wrong",), ("few right", "one order")),
    "not_significantly_better": (("by chance", "twelve rows", "other words"), ("one order", "always wrong")),
    "better_than_chance": (("one order", "words for labels"), ("by chance", "always wrong", "few right")),
    "less_than_chance": (("always wrong",), ("by chance", "one order", "few wrong")),
    "score_untested": (("few scores",), ("scores rise", "scores unrelated")),
    "score_unrelated": (("scores unrelated",), ("scores rise", "scores fall", "few scores")),
    "score_rises": (("scores rise",), ("scores fall", "scores unrelated", "few scores")),
    "score_falls": (("scores fall",), ("scores rise", "scores unrelated")),
    "undecided": (("tied panel",), ("unanimous panel", "one order")),
    "judges_differ": (("judges differ",), ("judges alike", "unanimous panel", "one order")),
    "judges_alike": (("judges alike", "unanimous panel"), ("judges differ", "one order")),
    "judge_below_chance": (("one below chance",), ("judges differ", "judges alike", "always wrong")),
    "mistake": (("one mistake",), ("even mistakes", "unbiased")),
    "groups_differ": (("groups differ",), ("groups alike", "tiny groups", "one group")),
    "panel_agrees": (("panel agrees", "unanimous panel"), ("panel disagrees", "panel uncertain", "one order")),
    "panel_uncertain": (("panel uncertain", "panel of four"), ("panel agrees", "panel disagrees")),
    "panel_disagrees": (("panel disagrees",), ("panel agrees", "panel uncertain", "panel of four")),
    "repeats": (("stable repeats", "two judges repeat"), ("one order",)),
    "contradictions": (("contradictions",), ("no contradictions", "one order")),
    "leader_certain": (("clear leader",), ("close leader", "leader of five", "equal leaders", "one order")),
    "leader_uncertain": (("close leader", "leader of five"), ("clear leader", "equal leaders")),
    "leader_shared": (("equal leaders",), ("clear leader", "close leader")),
}


def test_every_kind_is_expected_somewhere() -> None:
    assert set(EXPECTED) == set(KINDS)
    assert all(must and must_not for must, must_not in EXPECTED.values())
    assert {name for both in EXPECTED.values() for names in both for name in names} <= set(RUNS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finding_appears_where_it_must_and_nowhere_else(kind: str) -> None:
    must, must_not = EXPECTED[kind]
    for name in must:
        assert kind in found_in(run_named(name)), (name, found_in(run_named(name)))
    for name in must_not:
        assert kind not in found_in(run_named(name)), (name, found_in(run_named(name))[kind])


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("no rows", "no_rows", "There are no rows in Parquet parts yet."),
        ("one row", "all_read", "The only row has a readable verdict."),
        ("one order", "all_read", "All 60 rows have a readable verdict."),
        ("all failed", "nothing_read", "No verdict could be read (3 rows)."),
        (
            "some failed",
            "some_unread",
            "33.3 % of the rows have no verdict (0 not readable, 3 failed). They are excluded from all averages; "
            "if they differ from the other rows, the figures below describe only the other rows.",
        ),
        (
            "words",
            "labels_not_compared",
            "12 of 12 human labels cannot be compared with the verdicts (“model_a”): the judges need 1, 2 or tie. "
            "Name these labels in human_label.map.",
        ),
        (
            "scores for winners",
            "labels_of_other_kind",
            "Human labels that mean a score (12 of 12) are not compared: no judge gives an overall score. "
            "If they mean something else, set human_label.kind: winner.",
        ),
        (
            "positions",
            "positions",
            "The judges use different scales (j: 1 to 5, k: 1 to 10). Combined scores are positions on each judge's "
            "own scale, from 0 (lowest) to 1 (highest).",
        ),
        ("one order", "one_order", "Only one order was judged. Position bias cannot be measured; set swap: true."),
        (
            "one order so far",
            "one_order_so_far",
            "So far, only one order has been judged: position bias is not known yet.",
        ),
        (
            "swapped unread",
            "orders_unread",
            "Position bias cannot be measured (j): no pair of orders has two readable verdicts.",
        ),
        ("unbiased", "no_bias", "No significant position bias (j: 0.0 % for the answer shown first)."),
        ("clear leader", "leader_certain", "b ranks first, and in at least 95 % of the resamples too."),
        ("equal leaders", "leader_shared", "a and b share the first rank."),
        (
            "judges differ",
            "judges_differ",
            "Of the judges, j (96.7 %) agrees significantly more with human labels than k (53.3 %).",
        ),
        ("one below chance", "judge_below_chance", "k agrees with human labels less than by chance."),
    ],
)
def test_what_a_finding_says(name: str, kind: str, text: str) -> None:
    assert found_in(run_named(name))[kind] == text


def test_position_bias() -> None:
    """If the answer shown first always wins, answer 1 wins in the original order and answer 2 in the swapped one."""
    text = found_in(run_named("first shown wins"))["bias"]
    assert text.startswith("j prefers the answer shown first: the first answer won both times in 87.5 % (")
    dominant = "Its verdicts depend more on the position of the answers than on their content."
    assert text.endswith(f") of the pairs of orders, the second in 0.0 %. {dominant}")
    second = found_in(run_named("second shown wins"))["bias"]
    assert second.startswith("j prefers the answer shown second: the second answer won both times in 87.5 %")
    weak = texts_of(pairs(120, "12", "11", "22", "11", "22"))["bias"]
    assert dominant not in weak
    assert "judges" not in weak
    both = [*pairs(40, *["12"] * 7, "11"), *pairs(40, "12", "21", "11", "22", judge="k")]
    assert texts_of(both)["bias"].endswith(" 1 of 2 judges has a significant position bias.")


def test_the_bias_of_many_judges_is_tested_together() -> None:
    """Eight flips of eight to one side are significant for one judge, but not as the most extreme of twenty."""
    flips = ["12"] * 8 + ["11"] * 12
    assert "bias" in texts_of(pairs(20, *flips))
    others = [one for judge in range(19) for one in pairs(20, "12", "21", "11", judge=f"k{judge:02}")]
    assert "no_bias" in texts_of([*pairs(20, *flips), *others])


def test_undecided_samples_of_a_panel_are_not_simply_wrong() -> None:
    """The judges agree on a third of the samples, where both are right; elsewhere there is no majority."""
    rows = []
    for n in range(60):
        human = "12"[n % 2]
        rows.append(row(n, "j", winner=human, human_winner=human))
        rows.append(row(n, "k", winner=human if n % 3 == 0 else "21"[n % 2], human_winner=human))
    summary = make_summary(rows)
    text = found_in(summary)["undecided"]
    assert text.startswith(
        "Undecided 66.7 %: the votes on 40 of 60 labelled samples have no majority, which counts as a"
    )
    assert "Where they have one, 100.0 % (" in text
    winners = summary["agreement"][-1]["overall"]["winners"]
    assert (winners["with_ties"]["accuracy"]["count"], winners["accuracy_decided"]["count"]) == (20, 20)
    assert (winners["undecided"]["count"], winners["undecided"]["n"], winners["accuracy_decided"]["n"]) == (40, 60, 20)
    assert summary["agreement"][0]["overall"]["winners"]["undecided"] is None
    never = texts_of([row(n, j, winner=w, human_winner="1") for n in range(20) for j, w in (("j", "1"), ("k", "2"))])
    assert never["undecided"].endswith("have no majority, which counts as a tie.")


def test_a_tie_that_most_votes_name_is_decided() -> None:
    rows = [row(n, judge, winner="tie", human_winner="1") for n in range(20) for judge in "jkl"]
    summary = make_summary(rows)
    assert "undecided" not in found_in(summary)
    assert summary["agreement"][-1]["overall"]["winners"]["undecided"]["count"] == 0


def test_labels_keep_their_names() -> None:
    """Labels 1 and 2 are not answers. Without any match there is no agreement."""
    texts = found_in(run_named("other words"))
    assert texts["not_significantly_better"].startswith(
        "j agrees with human labels not significantly better than by chance: 0.0 % (0.0 % to 6.0 %) correct; kappa 0.0"
    )
    assert "the label is “b”, the verdict is “2”" in texts["mistake"]


def test_few_rows_have_a_warning() -> None:
    few = "This rests on only 12 rows: treat it as a rough indication."
    assert few in found_in(run_named("twelve rows"))["not_significantly_better"]
    assert "This rests on" not in found_in(run_named("by chance"))["not_significantly_better"]


def test_scores_against_human_scores() -> None:
    assert found_in(run_named("scores rise"))["score_rises"].startswith(
        "The scores of j rise with human scores: Spearman 0.9"
    )
    assert found_in(run_named("scores unrelated"))["score_unrelated"].startswith(
        "No significant correlation between the scores of j and human scores: Spearman"
    )
    assert found_in(run_named("few scores"))["score_untested"].startswith("The scores of j against human scores: Spear")


def test_groups_that_differ_are_named() -> None:
    text = found_in(run_named("groups differ"))["groups_differ"]
    assert text == (
        "Results differ by category. Accuracy against human labels: 60.0 % for b and 100.0 % for a. "
        "This is significant among 2 groups of at least 10 questions."
    )


def test_intervals_of_small_groups_are_not_shown() -> None:
    groups = run_named("tiny groups")["tests"]["groups"]
    assert groups == [
        {
            "column": "category",
            "figure": "accuracy",
            "groups": 2,
            "tested": 0,
            "low": None,
            "high": None,
            "p_value": None,
        }
    ]


def test_one_of_many_equal_groups_is_not_singled_out() -> None:
    """Forty topics whose labels are coin tosses: the best and the worst differ widely, but not significantly."""
    rows = [
        row(n, winner="1", human_winner="12"[(n * 2654435761 + 7) % 97 % 2], category=f"topic-{n // 12}")
        for n in range(480)
    ]
    summary = make_summary(rows, ("category",))
    shares = [
        one["comparison"]["winners"]["with_ties"]["accuracy"]["value"]
        for one in summary["agreement"][0]["groups"]["category"]
    ]
    assert max(shares) - min(shares) > 0.3
    assert "groups_differ" not in found_in(summary)


def test_warnings_take_precedence_over_notes() -> None:
    """A run with every kind of warning keeps all of them, whatever else there is to say."""
    rows = [
        row(n, judge, swapped, winner="12"[swapped], human_label="x", served_model="other", contradiction=True,
            score1=1.0, score2=2.0, **({"status": "failed"} if n % 5 == 0 else {}))
        for n in range(40) for judge in "jk" for swapped in (False, True)
    ]  # fmt: skip
    found = findings(make_summary(rows, ("category",)))
    assert len(found) <= MAX_FINDINGS
    kinds = {one.kind for one in found}
    assert kinds >= {"some_unread", "served_model", "labels_not_compared", "group_empty", "bias", "contradictions"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formatting.share(0.7687), "76.9 %"),
        (formatting.share(-0.0001), "0.0 %"),
        (formatting.compact(1_234_567), "1.2 M"),
        (formatting.compact(999_999_999), "1.0 G"),
        (formatting.compact(99_999), "99,999"),
        (formatting.number(-0.0104), "−0.010"),
        (formatting.number(1043.4), "1,043"),
        (formatting.duration(0.9996), "1.0 s"),
        (formatting.duration(59.97), "1 min"),
        (formatting.duration(3405.8), "56 min 46 s"),
        (formatting.duration(3 * 3600 + 12 * 60 + 5), "3 h 12 min"),
        (formatting.duration(90_000), "1 d 1 h"),
        (formatting.duration(0.12), "120 ms"),
        (formatting.money(0.00123, "CNY"), "0.00123 CNY"),
        (formatting.money(1234.5, None), "1,234.50"),
        (formatting.when("2026-11-24T02:33:19+02:00"), "2026-11-24 00:33 UTC"),
        (formatting.when(0.0), "1970-01-01 00:00 UTC"),
        (formatting.when("some day"), "some day"),
        (formatting.listed(["a", "b", "c"]), "a, b and c"),
        (formatting.listed(list("abcd"), 2), "a, b and 2 more"),
        (formatting.plural(1, "row"), "1 row"),
    ],
)
def test_formatting(written: str, expected: str) -> None:
    assert written.replace("\N{NO-BREAK SPACE}", " ") == expected
