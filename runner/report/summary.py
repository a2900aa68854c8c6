"""The numbers of a run, ready for `summary.json`: docs/agreement.md describes every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.report.data.query import RunTables, open_store
from runner.report.data.tables import Clusters, Group, Judge, ReportError
from runner.report.models import Agreement, Consistency, Ranking, Scales
from runner.report.sections.agreement import agreements, label_counts
from runner.report.sections.consistency import consistency
from runner.report.sections.counts import Counts, Throughput, Usage, counts, throughput, usage
from runner.report.sections.disputed import Disputed, disputed
from runner.report.sections.distributions import Distributions, distributions
from runner.report.sections.ranking import ranking
from runner.report.stats.bootstrap import LEVEL, REPLICATES, Resampler

SCHEMA_VERSION = 1
_RUN = (
    "id", "name", "tags", "versions", "emulated", "state", "exit_code", "stop_reason", "limit", "route",
    "route_reason", "lanes", "counts", "created_at", "started_at", "updated_at",
)  # fmt: skip


class Settings(msgspec.Struct, frozen=True):
    """How the numbers were made.

    `counts` in `run` may be higher than `counts` here: rows in the journal of a run that has not ended are in no part.
    """

    confidence: float
    replicates: int
    seed: int
    clusters: Clusters
    groups: Sequence[Group]
    scales: Scales
    criteria: Sequence[str]


class Summary(msgspec.Struct, frozen=True):
    """All numbers of a run."""

    schema_version: int
    settings: Settings
    run: Mapping[str, Any]
    judges: Sequence[Judge]
    labels: Mapping[str, int]
    counts: Counts
    usage: Sequence[Usage]
    throughput: Throughput
    distributions: Distributions
    agreement: Sequence[Agreement]
    consistency: Consistency
    ranking: Ranking
    disputed: Sequence[Disputed]


def summarize(
    run_dir: Path,
    group_by: Sequence[str] = (),
    scales: Scales | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Summarize a run from its Parquet files and run.json.

    Args:
        run_dir: the run directory; nothing in it is changed.
        group_by: columns carried from the dataset, by which agreement and consistency are broken down.
        scales: the scales of the judges and of people, as far as they are known; some figures need them.
        seed: of the resamples that intervals are from.

    Returns plain data for JSON, without any number that is not one.

    Raises:
        ReportError: there is no run, a grouping column is not there, or a file cannot be read.
    """
    scales = scales or Scales()
    run = _read_run(run_dir)
    with open_store(run_dir, group_by) as store:
        summary = _summary(store, run, scales, Resampler(seed), seed)
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(summary))  # what is no number becomes null
    return plain


def _summary(store: RunTables, run: Mapping[str, Any], scales: Scales, resampler: Resampler, seed: int) -> Summary:
    tables, criteria = store.tables, _criteria(run)
    return Summary(
        schema_version=SCHEMA_VERSION,
        settings=Settings(LEVEL, REPLICATES, seed, tables.clusters, tables.groups, scales, criteria),
        run={name: run.get(name) for name in _RUN} | {"currency": _currency(run)},
        judges=tables.judges,
        labels=label_counts(store),
        counts=counts(store),
        usage=usage(store),
        throughput=throughput(store, run.get("created_at")),
        distributions=distributions(store, resampler),
        agreement=agreements(store, scales, resampler),
        consistency=consistency(store, criteria, scales, resampler),
        ranking=ranking(store, resampler),
        disputed=disputed(store),
    )


def _criteria(run: Mapping[str, Any]) -> list[str]:
    """The judges that had a `dimension`: their score is one criterion, and they are no part of the panel."""
    judges = (run.get("reading") or {}).get("judges") or {}
    return sorted(name for name, judge in judges.items() if judge.get("dimension") is not None)


def _currency(run: Mapping[str, Any]) -> str | None:
    """Of all costs; None where no prices were set."""
    prices = (run.get("reading") or {}).get("prices") or {}
    currency: str | None = prices.get("currency")
    return currency


def _read_run(run_dir: Path) -> dict[str, Any]:
    try:
        data = msgspec.json.decode((run_dir / "run.json").read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise ReportError(f"{run_dir / 'run.json'}: cannot be read ({error})") from error
    return data if isinstance(data, dict) else {}
