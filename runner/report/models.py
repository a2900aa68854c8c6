"""The objects of `summary.json`; docs/agreement.md describes them for readers of the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from runner.report.significance import Leader

Span = tuple[float, float]  # lowest and highest score of a scale


class Figure(msgspec.Struct, frozen=True):
    """One number with its interval and the number of cases behind it.

    Attributes:
        value: the number; None if it is not defined (`reason` then says why).
        low: the lower end of its 95 % interval; None if there is none.
        high: the upper end.
        n: how many rows, pairs or units it is computed from.
        left_out: how many more have no readable verdict.
        count: for a share, the numerator (out of `n`).
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
    """The known scoring scales.

    Attributes:
        human: lowest and highest possible human score.
        judges: the same by judge; judges without a scale are absent.
    """

    human: Span | None = None
    judges: Mapping[str, Span] = {}

    def differ(self, judges: Iterable[str]) -> bool:
        """Returns True if these judges use different scales, or if only some of their scales are known."""
        return len({self.judges.get(name) for name in judges}) > 1


class Accuracies(msgspec.Struct, frozen=True):
    """How often the winner matches the human label, by each definition in use in the field.

    Attributes:
        accuracy: over all rows of both orders.
        accuracy_original: over rows in the dataset's order.
        accuracy_swapped: over rows with the answers swapped.
        accuracy_mean_of_orders: the mean of these two (LLMBar).
        accuracy_both_orders: share of pairs of orders in which both match the label (JudgeBench).
        accuracy_orders_combined: share of pairs of orders whose combined verdict matches; a tie and the label count as
            the label.
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
    """Labels against verdicts: `counts[i][j]` rows have the human label `classes[i]` and the verdict `classes[j]`.

    `unread[i]` is the number of rows with the human label `classes[i]` and no readable verdict.
    """

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    unread: Sequence[int]


class WinnerAgreement(msgspec.Struct, frozen=True):
    """Winners against human labels; `without_ties` excludes every row in which the label or the verdict is a tie.

    The last two are of the aggregated verdict only: `undecided` is the share of samples without a majority, whose
    verdict is a tie for that reason, and `accuracy_decided` is the accuracy over the others.
    """

    with_ties: Accuracies
    without_ties: Accuracies
    orders_agree: Figure
    confusion: Confusion
    resampled: int
    undecided: Figure | None = None
    accuracy_decided: Figure | None = None


class ScalePair(msgspec.Struct, frozen=True):
    """The scales of a judge and of the human scores; `mapped` is True if judge scores were mapped linearly."""

    judge: Span
    human: Span
    mapped: bool


class ScoreAgreement(msgspec.Struct, frozen=True):
    """Scores against human scores.

    Attributes:
        pairwise_accuracy: over pairs of rows of one question with different human scores, the share that the judge puts
            in the same order. If the judge scores both the same, it counts as wrong.
        pairwise_accuracy_with_ties: over all pairs of rows of one question; equal scores on both sides count as right.
        sampled: how many rows the rank correlations are computed from; None if from all.
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
    """Free labels against human labels."""

    accuracy: Figure
    kappa: Figure
    confusion: Confusion
    resampled: int


class Comparison(msgspec.Struct, frozen=True):
    """Verdicts against human labels, by kind; None for a kind without data."""

    winners: WinnerAgreement | None = None
    scores: ScoreAgreement | None = None
    labels: LabelAgreement | None = None


class GroupComparison(msgspec.Struct, frozen=True):
    """The comparison for one value of a grouping column."""

    value: str | None
    comparison: Comparison


class Agreement(msgspec.Struct, frozen=True):
    """One judge (or the aggregated verdict, if `judge` is None) against human labels, overall and by group."""

    judge: str | None
    overall: Comparison
    groups: Mapping[str, Sequence[GroupComparison]]


class Position(msgspec.Struct, frozen=True):
    """Position bias: how the order of the answers affects the verdict.

    Attributes:
        balanced: True if both orders were judged. If not, the share below is just how often answer 1 wins.
        first_shown_wins: share of the answer shown first among verdicts that name one; 0.5 is unbiased.
        people_first_share: share of answer 1 among the human labels of the same rows that name an answer.
        orders_agree: share of pairs of orders with the same verdict.
        flips_to_first: share of pairs in which the answer shown first wins both times.
        flips_to_second: share of pairs in which the answer shown second wins both times.
        flips_with_tie: share of pairs with a tie in exactly one order.
        preference: `flips_to_first` minus `flips_to_second`; 0 is unbiased.
        p_value: of the preference, adjusted for the number of judges; None by group and below ten questions.
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
    p_value: float | None = None


class Repeats(msgspec.Struct, frozen=True):
    """How consistent a judge is over repeats; a unit is a sample in one order.

    `spread` is the mean difference between a unit's highest and lowest score.
    """

    same_winner: Figure
    alpha_winners: Figure
    same_score: Figure
    alpha_scores: Figure
    spread: Figure
    resampled: int


class Steadiness(msgspec.Struct, frozen=True):
    """How a judge agrees with itself; None for what the run did not measure."""

    position: Position | None = None
    repeats: Repeats | None = None


class GroupSteadiness(msgspec.Struct, frozen=True):
    """A judge's agreement with itself for one value of a grouping column."""

    value: str | None
    steadiness: Steadiness


class JudgeConsistency(msgspec.Struct, frozen=True):
    """One judge's consistency, overall and by group."""

    judge: str
    overall: Steadiness
    groups: Mapping[str, Sequence[GroupSteadiness]]


class JudgePair(msgspec.Struct, frozen=True):
    """Two judges on the same samples; each judge's orders and repeats are aggregated first."""

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
    """The panel's alpha for one value of a grouping column."""

    value: str | None
    panel: PanelAlpha


class Panel(msgspec.Struct, frozen=True):
    """Agreement between judges; `judges` are the ones compared."""

    judges: Sequence[str]
    overall: PanelAlpha
    groups: Mapping[str, Sequence[GroupPanel]]
    pairs: Sequence[JudgePair]


class Consistency(msgspec.Struct, frozen=True):
    """Consistency of each judge, and agreement between judges; `panel` is None for a single judge."""

    judges: Sequence[JudgeConsistency]
    panel: Panel | None


class Ranked(msgspec.Struct, frozen=True):
    """One model in a ranking.

    Attributes:
        model: its name.
        rank: 1 is best; equal scores share a rank.
        rank_low: the best rank in the central 95 % of the resamples.
        rank_high: the worst rank in the central 95 % of the resamples.
        score: pairwise: 1000 + 400 / ln 10 times the strength; single: the mean score.
        strength: pairwise: in natural log odds; None for single.
        games: comparisons (pairwise) or scored samples (single).
        wins: comparisons won; None for single, as are the next three.
        losses: comparisons lost.
        ties: comparisons without a winner.
        win_rate: wins plus half of the ties, as a share of the comparisons.
        component: only models of the same component can be compared.
        note: a caveat about this score.
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
    """Pairwise results: `wins[i][j]` of `models[i]` over `models[j]`; `rate` counts ties half, None without a game."""

    models: Sequence[str]
    wins: Sequence[Sequence[int]]
    ties: Sequence[Sequence[int]]
    rate: Sequence[Sequence[float | None]]


class Table(msgspec.Struct, frozen=True):
    """One ranking.

    Attributes:
        by: `verdict` (the aggregated verdict) or `people` (human labels).
        method: `bradley_terry` or `mean_score`.
        models: best first.
        matrix: pairwise only.
        tie_parameter: Davidson's nu; 0 without ties, None for single.
        samples: how many samples it is computed from.
        left_out: samples that have no readable verdict, name no model, or name the same model twice.
        models_left_out: models that are not ranked because there are too many.
        notes: caveats about the whole ranking.
        leader: the best model; None if several share the first rank, or there is only one model.
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
    leader: Leader | None


class Ranking(msgspec.Struct, frozen=True):
    """The rankings that the columns allow, and how well they agree (Kendall's tau)."""

    tables: Sequence[Table]
    kendall_tau: Figure
    reason: str | None
