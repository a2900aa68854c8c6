"""Agreement with people: every judge and the aggregated verdict, overall and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runner.report.data.query import Key, RunTables, distinct
from runner.report.data.tables import UNREAD, VERDICT, Judge
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
from runner.report.sections.winner_agreement import CELL, CELLS, agreement, kappa
from runner.report.stats.bootstrap import Floats, Resampled, Resampler


def agreements(store: RunTables, scales: Scales, resampler: Resampler) -> tuple[Agreement, ...]:
    """Compare each judge, and last the aggregated verdict, with people; empty without human labels."""
    tables = store.tables
    who = [(judge.code, judge.name, scales.judges.get(judge.name)) for judge in tables.judges]
    every: list[tuple[int, str | None, Span | None]] = [*who]
    if tables.sample_columns:
        every.append((VERDICT, None, verdict_scale(tables.judges, scales)))
    made = []
    for code, name, span in every:
        compare = _Comparing(store, code, scale_pair(span, scales.human), resampler)
        overall, groups = store.by_group(compare.by, code)
        if overall is not None:
            in_groups = {column: [GroupComparison(*one) for one in found] for column, found in groups.items()}
            made.append(Agreement(name, overall, in_groups))
    return tuple(made)


def verdict_scale(judges: Sequence[Judge], scales: Scales) -> Span | None:
    """The scale of the aggregated score: the one that all judges that score have in common."""
    spans = {scales.judges.get(judge.name) for judge in judges if judge.scores}
    return spans.pop() if len(spans) == 1 else None


class _Comparing:
    """Compares one judge's verdicts of each kind with people's."""

    def __init__(self, store: RunTables, judge: int, scales: ScalePair | None, resampler: Resampler) -> None:
        self._store = store
        self._judge = judge
        self._scales = scales
        self._resampler = resampler

    def by(self, by: int | None) -> dict[Key, Comparison]:
        winners, labels = self._winners(by), self._labels(by)
        scores = score_agreement(self._store, self._judge, by, self._scales, self._resampler)
        keys = dict.fromkeys((*winners, *scores, *labels))
        return {key: Comparison(winners.get(key), scores.get(key), labels.get(key)) for key in keys}

    def _winners(self, by: int | None) -> dict[Key, WinnerAgreement]:
        where = f"judge = {self._judge} AND human < {UNREAD}"
        cells = self._store.cells("pairs", CELL, CELLS, by, where)
        return {key: agreement(self._resampler.resample(sums)) for key, sums in cells.items()}

    def _labels(self, by: int | None) -> dict[Key, LabelAgreement]:
        classes = self._store.tables.label_classes
        if classes is None:
            return {}
        if not classes:
            none = Figure(reason="not defined: too many different labels")
            return {(self._judge, None): LabelAgreement(none, none, Confusion((), (), ()), 0)} if by is None else {}
        width = len(classes) + 1
        cells = self._store.cells(
            "labels", f"human * {width} + label", (width - 1) * width, by, f"judge = {self._judge}"
        )
        return {key: _label_agreement(self._resampler.resample(sums), classes) for key, sums in cells.items()}


def _label_agreement(of: Resampled, classes: Sequence[str]) -> LabelAgreement:
    size = len(classes)
    human, label = np.indices((size, size + 1)).reshape(2, -1)
    read = (label < size).astype(float)
    counts = of.total.reshape(size, size + 1).round().astype(int)

    def statistic(sums: Floats) -> Floats:
        return kappa(sums.reshape(*sums.shape[:-1], size, size + 1)[..., :size])

    none = "no row has both a human label and a readable one"
    return LabelAgreement(
        accuracy=of.share(read * (human == label), read, 1 - read, none),
        kappa=of.figure(statistic, of.total @ read, of.total @ (1 - read), "not defined: fewer than two labels"),
        confusion=Confusion(classes, counts[:, :size].tolist(), counts[:, size].tolist()),
        resampled=of.units,
    )


def label_counts(store: RunTables) -> Mapping[str, int]:
    """How many samples have a human label of each kind."""
    columns = store.tables.columns
    kinds = [kind for kind in ("human_winner", "human_score", "human_label") if kind in columns]
    labelled = {kind: distinct("ordinal", "results", f"{kind} IS NOT NULL") for kind in kinds}
    return {kind: store.row(f"SELECT count(*) FROM {samples}")[0] for kind, samples in labelled.items()}
