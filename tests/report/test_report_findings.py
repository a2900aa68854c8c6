"""What to know: each rule says what the numbers say, and no more."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from report_runs import Row, make_run, row

from runner.report import summarize
from runner.report.page import formatting
from runner.report.page.findings import MOST, findings

EXTRA = ("human_winner", "human_score", "human_label", "model", "category")


def said(rows: list[Row], group_by: tuple[str, ...] = ()) -> list[str]:
    """The sentences about a run, with ordinary spaces."""
    with tempfile.TemporaryDirectory() as place:
        summary = summarize(make_run(Path(place) / "run", rows, EXTRA, samples=bool(rows)), group_by)
    found = findings(summary)
    assert 0 < len(found) <= MOST
    assert all(one.tone in ("warn", "good", "note") for one in found)
    return [one.text.replace("\N{NO-BREAK SPACE}", " ") for one in found]


def pair(n: int, winners: str, **more: Any) -> list[Row]:
    return [row(n, swapped=swapped, winner=winners[swapped], **more) for swapped in (False, True)]


def test_nothing_there() -> None:
    assert said([]) == ["There are no rows yet: nothing can be said."]


def test_what_was_read() -> None:
    assert said([row(n, score=1.0) for n in range(4)])[0] == "Each of the 4 rows has a verdict that could be read."
    failed = [row(n, status="failed", error_type="timeout") for n in range(3)]
    assert said(failed)[0] == "Nothing could be read: none of 3 rows has a verdict."
    some = [row(n, score=1.0) for n in range(3, 9)]
    assert said([*failed, *some])[0].startswith("33.3 % of the rows have no verdict (0 not readable, 3 failed).")


def test_a_judge_that_follows_the_place_and_one_that_does_not() -> None:
    """The first answer shown wins: answer 1 in the given order, answer 2 with the answers exchanged."""
    following = [one for n in range(40) for one in pair(n, "12" if n % 8 else "11")]
    text = said(following)[1]
    assert text.startswith("j prefers the answer shown first: in 87.5 %")
    assert text.endswith("in 0.0 % whichever stood second. Its verdicts follow the place more than the answers.")
    second = said([one for n in range(40) for one in pair(n, "21" if n % 8 else "11")])[1]
    assert second.startswith("j prefers the answer shown second: in 87.5 %")
    steady = [one for n in range(40) for one in pair(n, ("12", "21", "11", "22")[n % 4])]
    assert said(steady)[1] == "No preference for a place can be told from chance (j)."
    assert said([row(n, winner="1") for n in range(4)])[1].startswith("Only one order was asked")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [(4, "j agrees with people beyond chance"), (40, "no better than chance"), (76, "less than chance would")],
)
def test_agreement_with_people(wrong: int, expected: str) -> None:
    rows = [
        row(n, winner="12"[(n + (n * 37 % 80 < wrong)) % 2], human_winner="12"[n % 2], category="a") for n in range(80)
    ]
    assert any(expected in text for text in said(rows))


def test_labels_are_called_as_they_are() -> None:
    """Labels 1 and 2 are no answers; none of them right is no agreement, with or without an interval."""
    texts = said([row(n, label="21"[n % 4 == 0], human_label="ab"[n % 2]) for n in range(60)])
    assert "j agrees with people no better than chance would: 0.0 % (0.0 % to 6.0 %) right, 60 rows." in texts[1]
    assert any("they say “b”, the verdict is “2”" in text for text in texts)


def test_few_rows_are_a_hint() -> None:
    rows = [row(n, winner="12"[n % 2 if n % 3 else 0], human_winner="12"[n % 2]) for n in range(12)]
    assert any("With only 12 rows, take this as a hint." in text for text in said(rows))


def test_scores_against_people() -> None:
    alike = said([row(n, score=float(n % 7), human_score=float(n % 7 + n % 2)) for n in range(60)])
    assert any(text.startswith("Scores of j rise with people's: Spearman 0.9") for text in alike)
    against = said([row(n, score=-float(n % 7 + n % 2), human_score=float(n % 7)) for n in range(60)])
    assert any("fall where people's rise" in text for text in against)
    apart = said([row(n, score=float(n * 7 % 11), human_score=float(n * 5 % 13)) for n in range(143)])
    assert any(text.startswith("No relation between the scores of j and people's can be told") for text in apart)


def test_groups_that_differ_are_named() -> None:
    rows = [
        row(n, winner="12"[(n // 2 + (n % 2 and n % 20 < 15)) % 2], human_winner="12"[n // 2 % 2], category="ab"[n % 2])
        for n in range(200)
    ]
    (text,) = [text for text in said(rows, ("category",)) if text.startswith("It differs by category")]
    assert "100.0 % on a" in text and "on b and" in text


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
    texts = said(rows)
    assert any(text.startswith("The 2 judges agree with each other: Krippendorff's alpha 0.9") for text in texts)
    assert any(text.startswith("Of the judges, j (1.000) agrees most with people and k (") for text in texts)
    assert "c is first, also in 95 % of the resamples." in texts


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
def test_numbers_for_people(written: str, expected: str) -> None:
    assert written.replace("\N{NO-BREAK SPACE}", " ") == expected
