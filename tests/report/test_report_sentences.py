"""Every sentence of the page: a run that must have it and one that must not. The code is searched for sentences."""

from __future__ import annotations

import copy
import json
from functools import cache

import pytest
from report_cases import ENDED, RUNS, run_named
from report_sentences import finding_kinds, pattern_of, reasons, sentences_of_page, visible_text

from runner.report import render
from runner.report.page.finding import KINDS

# Names of figures and hints beside them: they say nothing about a run.
NAMES = {
    *("0 is chance level, 1 is perfect agreement", "A tie in one order only", "Accuracy by order and over both orders"),
    *("Accuracy in the original order", "Accuracy with the answers swapped", "All judges name the same winner"),
    *("Answer 1 wins in the human labels", "Cohen's kappa by pair of judges", "Mean of the two orders"),
    *("Mean difference, mean absolute error, quadratic-weighted kappa", "Pearson correlation by pair of judges"),
    *("Preference for the answer shown first", "Same order as the human scores", "Same verdict in both orders"),
    *("Spearman correlation with human scores", "The answer shown first wins", "The answer shown first wins, by {}"),
    *("The answer shown first wins both times", "The answer shown second wins both times"),
    *("a pair counts if both orders match the human label", "all pairs; equal scores on both sides count as correct"),
    *("as in JudgeBench's code: one correct and one tie is correct, opposite winners are a tie",),
    *("at most {} rows per second, {} on average", "concordant pairs, adjusted for ties"),
    *("each row counts by itself, in either order",),
    *("first wins both times minus second wins both times; 0 is unbiased",),
    *("from the start of the run to its last row, including interruptions", "judge score minus human score"),
    *("mean of the two figures above, as in LLMBar", "of verdicts that name an answer"),
    *("pairs with different human scores; equal judge scores count as wrong", "same verdict, correct or not"),
    *("the winner changes with the order", "winner changes with the order"),
    *("Rows: human label. Columns: verdict. Colour: share of the row.",),
    *("Number of samples by share of votes for the verdict.",),
    *("How often each parsing rule matched, and the share of these rows with a readable verdict.",),
    *("Percentage of comparisons that the row's model wins against the column's model; a tie counts half.",),
    *("Share of pairs in which the answer shown first wins both times, minus the share in which the second does; "
      "0 is unbiased.",),
}  # fmt: skip

ONE_ORDER = (
    "Only one order was judged, so the answer shown first is always answer 1. Position bias cannot be measured; "
    "set swap: true."
)

# For each other sentence the runs that must have it, and those that must not.
SENTENCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Emulated. These verdicts come from the built-in emulator. They mean nothing, and neither do the figures below "
    "about judges, models or human labels.": (("one order",), ("real",)),
    "Rows that are still in the journal are not included.": (("one order so far",), ("journal rows", "one order")),
    "Finished, but more rows failed or could not be read than output.tolerate allows": (("tolerated",), ("finished",)),
    "Interrupted: run the same command to resume": (("interrupted", "terminated"), ("finished", "out of time")),
    "Not finished: run the same command to resume": (("out of time",), ("finished", "action needed", "interrupted")),
    "Stopped by a bug in judge-runner": (("bug",), ("finished", "out of time", "action needed")),
    "Stopped: action is needed before the run can resume": (("action needed",), ("finished", "out of time", "bug")),
    "the last call was about {}; this report is about all {} samples that have rows": (
        ("limited",),
        ("unlimited", "limit of all"),
    ),
    "{}; replies with status 429: {}.": (("retried", "never retried"), ("one order",)),
    ONE_ORDER: (("one order", "no label"), ("one order so far", "both orders", "all failed", "scores rise")),
    "Answers keep their dataset numbers when they are swapped: a judge without position bias has about the same bar "
    "in both orders.": (("both orders",), ("one order", "scores rise")),
    "The votes are unanimous in {} and split in {}.": (("both orders", "tied panel"), ("one order", "scores rise")),
    "In {} every judge kept its winner when the answers were swapped; in {} at least one changed.": (
        ("both orders",),
        ("tied panel", "one order"),
    ),
    "The winner contradicts the scores in {} of the rows with a winner and two scores ({} of {}).": (
        ("contradictions", "no contradictions"),
        ("one order",),
    ),
    "No row is a tie, so the figures with and without ties are the same.": (
        ("one order", "both orders"),
        ("one mistake", "labelled rows failed", "scores rise"),
    ),
    "equal top counts; counted above as a tie": (("tied panel",), ("unanimous panel", "one order")),
    "For differences and kappa, judge scores ({}) are mapped linearly onto the human scale ({}).": (
        ("on another scale",),
        ("on the same scale", "scores rise"),
    ),
    "Rank correlations are computed from a random sample of {} rows.": (("sampled",), ("scores rise",)),
    "no interval: fewer than {} questions": (("tiny groups",), ("groups differ", "one order")),
    "{} of {} {} not shown.": (("many groups",), ("groups differ", "one order")),
    "position on each judge's own scale, 0 to 1": (("positions",), ("same scale", "raw means")),
    "Mean score, as the position on each judge's own scale, from 0 to 1.": (
        ("positions of models",),
        ("clear leader", "contests"),
    ),
    "Rating from wins, losses and ties (Bradley-Terry model with ties, Davidson 1970). 1000 is the average; 400 points "
    "more mean odds of ten to one.": (("contests",), ("clear leader", "positions of models")),
    "Based on {}; {} left out.": (("contests", "clear leader"), ("one order",)),
    "{} with fewer samples {} not ranked.": (("many models",), ("clear leader", "contests")),
    "Tie parameter (Davidson's nu): {}.": (("contests with ties",), ("contests", "clear leader")),
}

# Shorter sentences, which the search does not find.
SHORT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Not finished.": (("one order so far", "out of time", "journal rows"), ("one order", "finished", "tolerated")),
    "No attempt was retried": (("never retried",), ("retried", "one order")),
    "Attempts retried: 4": (("retried",), ("never retried", "one order")),
    "Limit the first 60 samples": (("limit of all",), ("limited", "unlimited")),
    "60 open requests": (("in one go",), ("resumed", "one order")),
    "2 open requests": (("lone remainder",), ("resumed", "in one go")),
    "lanes: online with 60 open, then batch with 2 open": (("resumed",), ("in one go", "one order")),
    "all judges combined, undecided": (("tied panel",), ("unanimous panel", "one order")),
    "where decided": (("tied panel",), ("unanimous panel", "one order")),
    "No position bias": ((), ("one order", "unbiased")),
    "Verdicts read 66.7 %": (("some failed",), ("one order",)),
    "Answered": ((), ("some failed", "one order", "all failed")),
    "Won / lost / tied": (("contests",), ("clear leader", "one order")),
    "won every comparison": (("unbeaten",), ("contests", "islands", "beaten")),
    "lost every comparison": (("beaten",), ("contests", "islands", "unbeaten")),
    "only one order was judged": (("one order",), ("both orders", "scores rise")),
}


# For each reason or note of summary.json the runs that must have it, and those that must not.
REASONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Some models never lost or tied against the rest of their component: only the prior determines how far apart "
    "they are.": (("unbeaten",), ("contests", "clear leader")),
    "Some models never met, not even through other models: compare scores only between models of the same component.": (
        ("islands",),
        ("contests", "unbeaten"),
    ),
    "won every comparison: only the prior keeps its score finite": (("unbeaten",), ("contests", "beaten")),
    "lost every comparison: only the prior keeps its score finite": (("beaten",), ("contests", "unbeaten")),
    "all samples of each question have the same human score": (("same human scores",), ("pairs in questions",)),
    "no question has two or more scored samples": (("scores rise",), ("pairs in questions", "same human scores")),
    "dataset.fields maps no model column": (("no label column",), ("one order", "contests")),
    "no readable verdict is about a named model": (("one order",), ("contests", "clear leader", "no label column")),
    "there is no samples.parquet": (("no rows",), ("one row",)),
    "there are fewer than two rankings": (("one order", "contests"), ("ranked by people",)),
    "fewer than two models appear in both rankings": (("people rank others",), ("ranked by people", "one order")),
    "one ranking gives all models the same rank": (("people see no difference",), ("ranked by people", "one order")),
    "fewer than two judges give scores": (("tied panel",), ("panel agrees", "one order")),
    "fewer than two judges name winners": (("panel agrees",), ("tied panel", "one order")),
    "one of the two judges does not give scores": (("tied panel",), ("panel agrees",)),
    "one of the two judges does not name winners": (("panel agrees",), ("tied panel",)),
    "no sample has readable verdicts from both judges": (("judges of other samples",), ("tied panel", "panel agrees")),
    "the judges use different scales": (("positions", "raw means"), ("same scale", "tied panel")),
    "undefined: all scores of one judge are equal": (("judge of one score",), ("panel agrees", "tied panel")),
    "undefined: fewer than two different winners": (("panel of one winner",), ("tied panel", "panel agrees")),
    "undefined: all scores on one side are equal": (("one score",), ("scores rise", "on another scale")),
    "undefined: fewer than two classes among labels and verdicts": (("one class",), ("one order", "both orders")),
    "undefined: fewer than two different labels": (("one word",), ("words for labels",)),
    "undefined: too many different labels": (("many words",), ("words for labels", "one word")),
    "undefined: all values are equal, or no unit has two readable values": (
        ("stable repeats",),
        ("two judges repeat",),
    ),
    "this judge does not give scores": (("stable repeats",), ("repeated scores", "one order")),
    "this judge does not name winners": (("repeated scores",), ("stable repeats", "one order")),
    "no human label names an answer": (("no label",), ("one order", "both orders")),
    "no verdict names an answer": (("swapped unread",), ("one order", "both orders")),
    "no usable pair of orders": (("swapped unread",), ("both orders", "one order")),
    "only one order was judged": (("one order", "one order so far"), ("both orders", "scores rise", "swapped unread")),
    "the aggregated verdict has no orders": (("one order", "both orders"), ("scores rise", "no label")),
    "no sample has a majority": (("never decided",), ("tied panel", "labelled rows failed", "one order")),
    "no row has both a human label and a readable verdict": (("labelled rows failed",), ("one order", "both orders")),
    "no row has both a human score and a readable score": (("scored rows failed",), ("scores rise",)),
    "no row has a winner and two scores": (("one order",), ("contradictions", "no contradictions")),
    "no score could be read": (("raw means",), ("same scale", "scores rise")),
    "no interval: all rows belong to one question": (("one row",), ("one order", "some failed")),
    "no interval: every resample gives the same value": (("some failed",), ("clear leader",)),
    "no interval: undefined in too many resamples": (("hardly defined",), ("one order", "scores rise")),
}


# Runs that would be large: another run whose summary says so, too.
LARGE = {"sampled": "scores rise", "many groups": "groups differ"}


@cache
def page_text(name: str) -> str:
    summary = copy.deepcopy(run_named(LARGE.get(name, name)))
    if name == "sampled":
        summary["agreement"][0]["overall"]["scores"]["sampled"] = 1000
    elif name == "many groups":
        summary["settings"]["groups"][0]["values_left_out"] = 3
    return visible_text(render(summary)).replace("\N{NO-BREAK SPACE}", " ")


@cache
def summary_text(name: str) -> str:
    return json.dumps(run_named(name), ensure_ascii=False)


def test_every_sentence_of_the_code_is_in_a_table() -> None:
    """A new sentence fails here until a run must have it and another must not."""
    assert finding_kinds() == set(KINDS)
    assert sentences_of_page() == NAMES | set(SENTENCES)
    assert reasons() == set(REASONS)
    tables = [*SENTENCES.values(), *REASONS.values()]
    assert all(must and must_not for must, must_not in tables)
    names = {name for both in (*tables, *SHORT.values()) for names in both for name in names}
    assert names <= {*RUNS, *ENDED, *LARGE}


@pytest.mark.parametrize("sentence", [*SENTENCES, *SHORT])
def test_a_sentence_of_the_page_appears_where_it_must_and_nowhere_else(sentence: str) -> None:
    must, must_not = SENTENCES.get(sentence) or SHORT[sentence]
    pattern = pattern_of(sentence)
    for name in must:
        assert pattern.search(page_text(name)), (name, page_text(name))
    for name in must_not:
        assert not pattern.search(page_text(name)), name


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_given_where_it_must_and_nowhere_else(reason: str) -> None:
    must, must_not = REASONS[reason]
    for name in must:
        assert reason in summary_text(name), name
    for name in must_not:
        assert reason not in summary_text(name), name
