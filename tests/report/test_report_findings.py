"""Key findings: each rule states what the numbers show, and no more."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from report_runs import Row, make_run, row

from runner.report import summarize
from runner.report.page import formatting
from runner.report.page.findings import MAX_FINDINGS, findings

EXTRA = ("human_winner", "human_score", "human_label", "model", "category")


def finding_texts(rows: list[Row], group_by: tuple[str, ...] = ()) -> list[str]:
    """Returns the findings about a run, with ordinary spaces."""
    with tempfile.TemporaryDirectory() as directory:
        summary = summarize(make_run(Path(directory) / "run", rows, EXTRA, samples=bool(rows)), group_by)
    found = findings(summary)
    assert 0 < len(found) <= MAX_FINDINGS
    assert all(one.tone in ("warn", "good", "note") for one in found)
    return [one.text.replace("\N{NO-BREAK SPACE}", " ") for one in found]


def pair(n: int, winners: str, **more: Any) -> list[Row]:
    return [row(n, swapped=swapped, winner=winners[swapped], **more) for swapped in (False, True)]


def test_no_rows() -> None:
    assert finding_texts([]) == ["There are no rows yet."]


def test_rows_without_a_verdict() -> None:
    assert finding_texts([row(n, score=1.0) for n in range(4)])[0] == "All 4 rows have a readable verdict."
    failed = [row(n, status="failed", error_type="timeout") for n in range(3)]
    assert finding_texts(failed)[0] == "No verdict could be read (3 rows)."
    some = [row(n, score=1.0) for n in range(3, 9)]
    assert finding_texts([*failed, *some])[0] == (
        "33.3 % of the rows have no verdict (0 not readable, 3 failed). They are excluded from all averages; "
        "if they differ from the other rows, the figures below describe only the other rows."
    )
    assert finding_texts([row(0, score=1.0)])[0] == "The only row has a readable verdict."


def test_position_bias() -> None:
    """If the answer shown first always wins, answer 1 wins in the original order and answer 2 in the swapped one."""
    biased = [one for n in range(40) for one in pair(n, "12" if n % 8 else "11")]
    text = finding_texts(biased)[1]
    assert text.startswith("j prefers the answer shown first: the first answer won both times in 87.5 % (")
    assert text.endswith(
        ") of the pairs of orders, the second in 0.0 %. "
        "Its verdicts depend more on the position of the answers than on their content."
    )
    second = finding_texts([one for n in range(40) for one in pair(n, "21" if n % 8 else "11")])[1]
    assert second.startswith("j prefers the answer shown second: the second answer won both times in 87.5 %")
    unbiased = [one for n in range(40) for one in pair(n, ("12", "21", "11", "22")[n % 4])]
    assert finding_texts(unbiased)[1] == "No significant position bias (j)."
    assert finding_texts([row(n, winner="1") for n in range(4)])[1] == (
        "Only one order was judged. Position bias cannot be measured; set swap: true."
    )


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (4, "j agrees with human labels better than by chance: "),
        (40, "j agrees with human labels not significantly better than by chance: "),
        (76, "j agrees with human labels less than by chance: "),
    ],
)
def test_agreement_with_human_labels(wrong: int, expected: str) -> None:
    rows = [
        row(n, winner="12"[(n + (n * 37 % 80 < wrong)) % 2], human_winner="12"[n % 2], category="a") for n in range(80)
    ]
    assert any(expected in text for text in finding_texts(rows))


def test_labels_keep_their_names() -> None:
    """Labels 1 and 2 are not answers. Without any match there is no agreement, with or without an interval."""
    texts = finding_texts([row(n, label="21"[n % 4 == 0], human_label="ab"[n % 2]) for n in range(60)])
    assert "j agrees with human labels no better than by chance: 0.0 % (0.0 % to 6.0 %) correct, 60 rows." in texts[1]
    assert any("the label is “b”, the verdict is “2”" in text for text in texts)


def test_few_rows_have_a_warning() -> None:
    rows = [row(n, winner="12"[n % 2 if n % 3 else 0], human_winner="12"[n % 2]) for n in range(12)]
    assert any("This rests on only 12 rows: treat it as a rough indication." in text for text in finding_texts(rows))


def test_scores_against_human_scores() -> None:
    rising = finding_texts([row(n, score=float(n % 7), human_score=float(n % 7 + n % 2)) for n in range(60)])
    assert any(text.startswith("The scores of j rise with human scores: Spearman 0.9") for text in rising)
    falling = finding_texts([row(n, score=-float(n % 7 + n % 2), human_score=float(n % 7)) for n in range(60)])
    assert any("The scores of j fall as human scores rise" in text for text in falling)
    unrelated = finding_texts([row(n, score=float(n * 7 % 11), human_score=float(n * 5 % 13)) for n in range(143)])
    assert any(
        text.startswith("No significant correlation between the scores of j and human scores") for text in unrelated
    )


def test_groups_that_differ_are_named() -> None:
    rows = [
        row(n, winner="12"[(n // 2 + (n % 2 and n % 20 < 15)) % 2], human_winner="12"[n // 2 % 2], category="ab"[n % 2])
        for n in range(200)
    ]
    (text,) = [text for text in finding_texts(rows, ("category",)) if text.startswith("Results differ by category")]
    assert text.startswith("Results differ by category. Accuracy against human labels: ")
    assert "for b and 100.0 % for a; the intervals do not overlap." in text


def test_judges_and_models() -> None:
    rows = [
        row(
            n,
            judge,
            score=float(n % 3 * 3 + (n % 2 if judge == "k" else 0)),
            human_score=float(n % 3),
            model="abc"[n % 3],
        )
        for n in range(90)
        for judge in "jk"
    ]
    texts = finding_texts(rows)
    assert any(text.startswith("The 2 judges agree with each other: Krippendorff's alpha 0.9") for text in texts)
    assert any(text.startswith("Of the judges, j (1.000) agrees most with human labels and k (") for text in texts)
    assert "c ranks first, and in at least 95 % of the resamples too." in texts


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
