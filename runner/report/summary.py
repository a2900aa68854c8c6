"""All numbers of a run as `summary.json` holds them; docs/agreement.md defines each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.model_names import is_emulated
from runner.report.data.codes import VERDICT
from runner.report.data.query import RunTables, open_tables
from runner.report.data.tables import Clusters, Group, Judge, ReportError
from runner.report.models import Agreement, Consistency, Ranking, Scales
from runner.report.sections.agreement import agreements, label_counts, label_words
from runner.report.sections.consistency import consistency
from runner.report.sections.counts import (
    Counts,
    Served,
    Throughput,
    Usage,
    counts,
    served_models,
    throughput,
    usage,
)
from runner.report.sections.differences import tests
from runner.report.sections.disputed import Disputed, disputed
from runner.report.sections.distributions import Distributions, distributions
from runner.report.sections.ranking import ranking
from runner.report.significance import Tests
from runner.report.stats.bootstrap import CONFIDENCE_LEVEL, REPLICATES, Resampler
from runner.run_file import run_file_problem

SCHEMA_VERSION = 1
_RUN = (
    "id", "name", "tags", "versions", "emulated", "state", "exit_code", "stop_reason", "limit", "route",
    "route_reason", "lanes", "story", "traffic", "counts", "created_at", "started_at", "updated_at",
)  # fmt: skip


class Settings(msgspec.Struct, frozen=True):
    """How the numbers were computed.

    `positions` are the columns of samples.parquet that hold positions on each judge's own scale, 0 to 1. `mixed_raw` is
    True if it holds means of raw scores on different scales instead; no figure is computed from these.

    `journal_rows` is the number of rows that are in the journal and in no Parquet part yet; they are part of all
    figures. It is None if the journal was not read: then `run.counts` may be higher than the summary's `counts`.
    """

    confidence: float
    replicates: int
    seed: int
    clusters: Clusters
    groups: Sequence[Group]
    scales: Scales
    criteria: Sequence[str]
    positions: Sequence[str]
    mixed_raw: bool
    journal_rows: int | None


class Summary(msgspec.Struct, frozen=True):
    """All numbers of a run."""

    schema_version: int
    settings: Settings
    run: Mapping[str, Any]
    judges: Sequence[Judge]
    labels: Mapping[str, int]
    label_words: Sequence[str]
    counts: Counts
    usage: Sequence[Usage]
    served: Sequence[Served]
    throughput: Throughput
    distributions: Distributions
    agreement: Sequence[Agreement]
    consistency: Consistency
    ranking: Ranking
    disputed: Sequence[Disputed]
    tests: Tests


def summarize(
    run_dir: Path,
    group_by: Sequence[str] = (),
    scales: Scales | None = None,
    seed: int = 0,
    journal: str | None = None,
) -> dict[str, Any]:
    """Summarize a run from its Parquet files and run.json.

    Args:
        run_dir: the run directory; nothing in it is changed.
        group_by: columns carried from the dataset; agreement and consistency are also computed per value of each.
        scales: the known scales of the judges and of the human labels; some figures need them.
        seed: of the bootstrap resamples.
        journal: a Parquet file with the rows of the journal; empty if it has none, None if they are not read.

    Returns plain data for JSON, in which NaN and infinity are null.

    Raises:
        ReportError: there is no run, a grouping column does not exist, or a file cannot be read.
    """
    scales = scales or Scales()
    run = _read_run(run_dir)
    with open_tables(run_dir, group_by, journal) as tables:
        summary = _summary(tables, run, scales, Resampler(seed), seed)
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(summary))  # encoding turns NaN into null
    return plain


def _summary(tables: RunTables, run: Mapping[str, Any], scales: Scales, resampler: Resampler, seed: int) -> Summary:
    facts, criteria = tables.facts, _criteria(run)
    mixed_raw = "score" not in facts.positions and scales.differ(one.name for one in facts.judges if one.scores)
    if mixed_raw:
        tables.run(f"UPDATE rows SET score = NULL WHERE judge = {VERDICT}")
    agreement = agreements(tables, scales, resampler)
    served = served_models(tables)
    emulated = bool(run.get("emulated")) or is_emulated(one.model for one in served)
    return Summary(
        schema_version=SCHEMA_VERSION,
        settings=Settings(
            CONFIDENCE_LEVEL,
            REPLICATES,
            seed,
            facts.clusters,
            facts.groups,
            scales,
            criteria,
            facts.positions,
            mixed_raw,
            facts.journal_rows,
        ),
        run={name: run.get(name) for name in _RUN} | {"currency": _currency(run), "emulated": emulated},
        judges=facts.judges,
        labels=label_counts(tables),
        label_words=label_words(tables),
        counts=counts(tables),
        usage=usage(tables),
        served=served,
        throughput=throughput(tables, run.get("created_at")),
        distributions=distributions(tables, resampler),
        agreement=agreement,
        consistency=consistency(tables, criteria, scales, resampler),
        ranking=ranking(tables, resampler),
        disputed=disputed(tables, scales),
        tests=tests(tables, agreement),
    )


def _criteria(run: Mapping[str, Any]) -> list[str]:
    """Returns the judges with a `dimension`: they score one criterion and are not part of the panel."""
    judges = (run.get("reading") or {}).get("judges") or {}
    return sorted(name for name, judge in judges.items() if judge.get("dimension") is not None)


def _currency(run: Mapping[str, Any]) -> str | None:
    """Returns the currency of all costs; None if no prices were set."""
    prices = (run.get("reading") or {}).get("prices") or {}
    currency: str | None = prices.get("currency")
    return currency


def _read_run(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "run.json"
    try:
        data: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error
    if (problem := run_file_problem(data)) is not None:
        raise ReportError(f"{path}: cannot be read: {problem}")
    return data
