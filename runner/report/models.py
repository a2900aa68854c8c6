"""The values that `summary.json` is made of; docs/agreement.md describes them for readers of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

Span = tuple[float, float]
"""Lowest and highest score of a scale."""


class Figure(msgspec.Struct, frozen=True):
    """One number with what it rests on.

    Attributes:
        value: the number; None where it is not defined, and `reason` says why.
        low: the lower end of its 95 % interval; None where there is none.
        high: the upper end.
        n: how many rows, pairs or units it is about.
        left_out: how many more there were whose verdict could not be read or is missing.
        count: of a share, how many of `n`.
        reason: why there is no value, or no interval.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    left_out: int = 0
    count: int | None = None
    reason: str | None = None


class Scales(msgspec.Struct, frozen=True):
    """What is known of the scales on which was scored.

    Attributes:
        human: lowest and highest score that people could give.
        judges: the same by judge; a judge without a scale is not named.
    """

    human: Span | None = None
    judges: Mapping[str, Span] = {}


class Accuracies(msgspec.Struct, frozen=True):
    """How often a winner is the one that people name, counted in each of the ways the field does.

    Attributes:
        accuracy: over all rows, whatever their order.
        accuracy_original: over rows asked in the dataset's order.
        accuracy_swapped: over rows asked with the answers exchanged.
        accuracy_mean_of_orders: the mean of these two (LLMBar).
        accuracy_both_orders: pairs of orders that both name the label (JudgeBench: both orders must agree with it).
        accuracy_orders_combined: pairs of orders that name the label together; a tie and the label make the label.
        kappa: Cohen's kappa over all rows.
    """

    accuracy: Figure
    accuracy_original: Figure
    accuracy_swapped: Figure
    accuracy_mean_of_orders: Figure
    accuracy_both_orders: Figure
    accuracy_orders_combined: Figure
    kappa: Figure


class Confusion(msgspec.Struct, frozen=True):
    """Labels against verdicts: `counts[i][j]` rows that people call `classes[i]` and the judge `classes[j]`.

    `unread[i]` is how many rows that people call `classes[i]` have no readable verdict.
    """

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    unread: Sequence[int]


class WinnerAgreement(msgspec.Struct, frozen=True):
    """Winners against people's; `without_ties` leaves out every row where either says tie."""

    with_ties: Accuracies
    without_ties: Accuracies
    orders_agree: Figure
    confusion: Confusion
    resampled: int


class ScalePair(msgspec.Struct, frozen=True):
    """The scales of a judge and of people, and whether the judge's scores were mapped linearly onto people's."""

    judge: Span
    human: Span
    mapped: bool


class ScoreAgreement(msgspec.Struct, frozen=True):
    """Scores against people's.

    `pairwise_accuracy` is about pairs of rows of one question that people score differently: the share that the judge
    orders as people do (a tie of the judge's is wrong). `pairwise_accuracy_with_ties` is about all pairs: a pair that
    both score equal is right, too. `sampled` is how many rows the rank correlations are from, where not from all.
    """

    pearson: Figure
    spearman: Figure
    kendall_tau_b: Figure
    pairwise_accuracy: Figure
    pairwise_accuracy_with_ties: Figure
    mean_difference: Figure
    mean_absolute_error: Figure
    quadratic_kappa: Figure
    scales: ScalePair | None
    sampled: int | None
    resampled: int


class LabelAgreement(msgspec.Struct, frozen=True):
    """Free labels against people's."""

    accuracy: Figure
    kappa: Figure
    confusion: Confusion
    resampled: int


class Comparison(msgspec.Struct, frozen=True):
    """Verdicts against human labels, of each kind that there is."""

    winners: WinnerAgreement | None = None
    scores: ScoreAgreement | None = None
    labels: LabelAgreement | None = None


class GroupComparison(msgspec.Struct, frozen=True):
    """The comparison within one value of a grouping column."""

    value: str | None
    comparison: Comparison


class Agreement(msgspec.Struct, frozen=True):
    """One judge (or, with `judge` None, the aggregated verdict) against people, overall and by group."""

    judge: str | None
    overall: Comparison
    groups: Mapping[str, Sequence[GroupComparison]]


class Position(msgspec.Struct, frozen=True):
    """What the place of an answer does to the verdict.

    Attributes:
        balanced: whether both orders were asked; else the share is that of answer 1, whatever it deserves.
        first_shown_wins: the share of the answer shown first among verdicts that name one; 0.5 is unbiased.
        people_first_share: the share of answer 1 among people's labels of the same rows, where they name an answer.
        orders_agree: pairs of orders with the same verdict.
        flips_to_first: pairs in which whichever answer is shown first wins.
        flips_to_second: pairs in which whichever answer is shown second wins.
        flips_with_tie: pairs in which one order is a tie and the other is not.
        preference: flips to first less flips to second, as a share of all pairs; 0 is unbiased.
    """

    balanced: bool
    first_shown_wins: Figure
    people_first_share: Figure
    orders_agree: Figure
    flips_to_first: Figure
    flips_to_second: Figure
    flips_with_tie: Figure
    preference: Figure
    resampled: int


class Repeats(msgspec.Struct, frozen=True):
    """How alike the answers to the same request are, asked again; a unit is a sample in one order.

    `spread` is the mean difference between a unit's highest and lowest score.
    """

    same_winner: Figure
    alpha_winners: Figure
    same_score: Figure
    alpha_scores: Figure
    spread: Figure
    resampled: int


class Steadiness(msgspec.Struct, frozen=True):
    """How a judge agrees with itself; what was not asked for is None."""

    position: Position | None = None
    repeats: Repeats | None = None


class GroupSteadiness(msgspec.Struct, frozen=True):
    """The same within one value of a grouping column."""

    value: str | None
    steadiness: Steadiness


class JudgeConsistency(msgspec.Struct, frozen=True):
    """One judge's consistency, overall and by group."""

    judge: str
    overall: Steadiness
    groups: Mapping[str, Sequence[GroupSteadiness]]


class JudgePair(msgspec.Struct, frozen=True):
    """Two judges on the same samples; a judge's orders and repeats are put together first."""

    first: str
    second: str
    same_winner: Figure
    kappa: Figure
    pearson: Figure
    mean_difference: Figure


class PanelAlpha(msgspec.Struct, frozen=True):
    """Krippendorff's alpha across judges: nominal for winners, interval for scores."""

    alpha_winners: Figure
    alpha_scores: Figure
    same_winner: Figure
    resampled: int


class GroupPanel(msgspec.Struct, frozen=True):
    """The same within one value of a grouping column."""

    value: str | None
    panel: PanelAlpha


class Panel(msgspec.Struct, frozen=True):
    """How the judges agree with each other; `judges` are those it is about."""

    judges: Sequence[str]
    overall: PanelAlpha
    groups: Mapping[str, Sequence[GroupPanel]]
    pairs: Sequence[JudgePair]


class Consistency(msgspec.Struct, frozen=True):
    """Of each judge with itself and of the judges with each other; `panel` is None for a single judge."""

    judges: Sequence[JudgeConsistency]
    panel: Panel | None


class Ranked(msgspec.Struct, frozen=True):
    """One model in a ranking.

    Attributes:
        model: its name.
        rank: 1 is best; equal scores share a rank.
        rank_low: the best rank that it has in 95 % of the resamples.
        rank_high: the worst.
        score: pairwise: 1000 + 400 / ln 10 times the strength; single: the mean score.
        strength: pairwise: the natural logarithm of its odds; None for single.
        games: comparisons (pairwise) or scored samples (single).
        wins: comparisons won; None for single, and so are the next three.
        losses: comparisons lost.
        ties: comparisons without a winner.
        win_rate: wins and half of the ties, as a share of the comparisons.
        component: models are only comparable within the same one.
        note: what to know of this score.
    """

    model: str
    rank: int
    rank_low: int
    rank_high: int
    score: Figure
    strength: float | None
    games: int
    wins: int | None
    losses: int | None
    ties: int | None
    win_rate: Figure | None
    component: int
    note: str | None


class WinMatrix(msgspec.Struct, frozen=True):
    """Who beat whom: `wins[i][j]` of `models[i]` over `models[j]`; `rate` counts ties half, None without a game."""

    models: Sequence[str]
    wins: Sequence[Sequence[int]]
    ties: Sequence[Sequence[int]]
    rate: Sequence[Sequence[float | None]]


class Table(msgspec.Struct, frozen=True):
    """One ranking.

    Attributes:
        by: `verdict` (the judges' aggregated one) or `people` (their labels).
        method: `bradley_terry` or `mean_score`.
        models: best first.
        matrix: pairwise only.
        tie_parameter: Davidson's nu; 0 without ties, None for single.
        samples: how many it is from.
        left_out: samples whose verdict could not be read, that name no model, or one model twice.
        models_left_out: models that are not ranked, since there are too many.
        notes: what to know of the whole ranking.
    """

    by: str
    method: str
    models: Sequence[Ranked]
    matrix: WinMatrix | None
    tie_parameter: float | None
    samples: int
    left_out: int
    models_left_out: int
    notes: Sequence[str]


class Ranking(msgspec.Struct, frozen=True):
    """The rankings that the columns allow, and how far the judges' order is that of people (Kendall's tau)."""

    tables: Sequence[Table]
    kendall_tau: Figure
    reason: str | None
