"""Agreement of each judge and of the aggregated verdict with human labels, overall and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from runner.report.data.codes import UNREAD, VERDICT
from runner.report.data.query import Key, RunTables, distinct
from runner.report.models import (
    Agreement,
    Comparison,
    Confusion,
    Figure,
    GroupComparison,
    LabelAgreement,
    ScalePair,
    Scales,
    Span,
    WinnerAgreement,
)
from runner.report.sections.score_agreement import scale_pair, score_agreement
from runner.report.sections.winner_agreement import (
    CELL,
    CELLS,
    NO_LABELLED_ROW,
    agreement,
    kappa,
    of_aggregated_verdict,
)
from runner.report.stats.bootstrap import Floats, Resampled, Resampler

_MAX_WORDS, _MAX_WORD_CHARS = 5, 60

# SQL for the samples of the aggregated verdict: without a verdict, without a majority, right and wrong.
_DECISION_TERMS = (
    f"count(*) FILTER (winner = {UNREAD})",
    f"count(*) FILTER (winner < {UNREAD} AND undecided)",
    f"count(*) FILTER (winner < {UNREAD} AND NOT undecided AND winner = human)",
    f"count(*) FILTER (winner < {UNREAD} AND NOT undecided AND winner <> human)",
)


def agreements(tables: RunTables, scales: Scales, resampler: Resampler) -> tuple[Agreement, ...]:
    """Compare each judge, and last the aggregated verdict, with human labels; empty if there are none."""
    judges = tables.facts.judges
    entries: list[tuple[int, str | None, Span | None]] = [
        (judge.code, judge.name, scales.judges.get(judge.name)) for judge in judges
    ]
    if tables.facts.sample_columns:
        entries.append((VERDICT, None, verdict_scale(tables, scales)))
    found = []
    for code, name, span in entries:
        comparer = _Comparer(tables, code, scale_pair(span, scales.human), resampler)
        overall, groups = tables.by_group(comparer.compare, code)
        if overall is not None:
            in_groups = {column: [GroupComparison(*one) for one in values] for column, values in groups.items()}
            found.append(Agreement(name, overall, in_groups))
    return tuple(found)


def verdict_scale(tables: RunTables, scales: Scales) -> Span | None:
    """Returns the scale of the aggregated score: 0 to 1 for positions, else the one that all judges of scores share."""
    if "score" in tables.facts.positions:
        return 0.0, 1.0
    spans = {scales.judges.get(judge.name) for judge in tables.facts.judges if judge.scores}
    return spans.pop() if len(spans) == 1 else None


class _Comparer:
    """Compares one judge's verdicts of each kind with human labels."""

    def __init__(self, tables: RunTables, judge: int, scales: ScalePair | None, resampler: Resampler) -> None:
        self._tables = tables
        self._judge = judge
        self._scales = scales
        self._resampler = resampler

    def compare(self, by: int | None) -> dict[Key, Comparison]:
        """Returns the comparison for each value of a grouping column; `by` None compares all rows."""
        winners, labels = self._winners(by), self._labels(by)
        scores = score_agreement(self._tables, self._judge, by, self._scales, self._resampler)
        keys = dict.fromkeys((*winners, *scores, *labels))
        return {key: Comparison(winners.get(key), scores.get(key), labels.get(key)) for key in keys}

    def _winners(self, by: int | None) -> dict[Key, WinnerAgreement]:
        where = f"judge = {self._judge} AND human < {UNREAD}"
        cells = self._tables.cells("pairs", CELL, CELLS, by, where)
        found = {key: agreement(self._resampler.resample(sums)) for key, sums in cells.items()}
        if self._judge == VERDICT:
            found = {key: of_aggregated_verdict(one) for key, one in found.items()}
        if self._judge == VERDICT and "undecided" in self._tables.facts.sample_columns:
            sums_by_key = self._tables.sums("rows", _DECISION_TERMS, by, where)
            found = {key: self._with_decisions(one, sums_by_key[key]) for key, one in found.items()}
        return found

    def _with_decisions(self, found: WinnerAgreement, sums: Floats) -> WinnerAgreement:
        resampled = self._resampler.resample(sums)
        unread, undecided, right, wrong = np.eye(len(_DECISION_TERMS))
        decided = right + wrong
        without = "no sample has a majority" if float(resampled.total @ undecided) else NO_LABELLED_ROW
        return msgspec.structs.replace(
            found,
            undecided=resampled.share(undecided, undecided + decided, unread, NO_LABELLED_ROW),
            accuracy_decided=resampled.share(right, decided, unread, without),
        )

    def _labels(self, by: int | None) -> dict[Key, LabelAgreement]:
        classes = self._tables.facts.label_classes
        if classes is None:
            return {}
        if not classes:
            none = Figure(reason="undefined: too many different labels")
            return {(self._judge, None): LabelAgreement(none, none, Confusion((), (), ()), 0)} if by is None else {}
        width = len(classes) + 1
        cells = self._tables.cells(
            "labels", f"human * {width} + label", (width - 1) * width, by, f"judge = {self._judge}"
        )
        return {key: _label_agreement(self._resampler.resample(sums), classes) for key, sums in cells.items()}


def _label_agreement(resampled: Resampled, classes: Sequence[str]) -> LabelAgreement:
    size = len(classes)
    human, label = np.indices((size, size + 1)).reshape(2, -1)
    read = (label < size).astype(float)
    counts = resampled.total.reshape(size, size + 1).round().astype(int)

    def statistic(sums: Floats) -> Floats:
        return kappa(sums.reshape(*sums.shape[:-1], size, size + 1)[..., :size])

    none = "no row has both a human label and a readable verdict"
    return LabelAgreement(
        accuracy=resampled.share(read * (human == label), read, 1 - read, none),
        kappa=resampled.figure(
            statistic,
            resampled.total @ read,
            resampled.total @ (1 - read),
            "undefined: fewer than two different labels",
        ),
        confusion=Confusion(classes, counts[:, :size].tolist(), counts[:, size].tolist()),
        resampled=resampled.units,
    )


def label_counts(tables: RunTables) -> Mapping[str, int]:
    """Returns the number of samples with a human label, by kind."""
    columns = tables.facts.columns
    kinds = [kind for kind in ("human_winner", "human_score", "human_label") if kind in columns]
    labelled = {kind: distinct("ordinal", "results", f"{kind} IS NOT NULL") for kind in kinds}
    return {kind: tables.row(f"SELECT count(*) FROM {samples}")[0] for kind, samples in labelled.items()}


def label_words(tables: RunTables) -> list[str]:
    """Returns the most frequent human labels that are words, neither winners nor scores."""
    if "human_label" not in tables.facts.columns:
        return []
    found = tables.rows(
        f"SELECT left(CAST(human_label AS VARCHAR), {_MAX_WORD_CHARS}), count(*) AS n FROM results "
        f"WHERE human_label IS NOT NULL GROUP BY 1 ORDER BY n DESC, 1 LIMIT {_MAX_WORDS}"
    )
    return [word for word, _ in found]
