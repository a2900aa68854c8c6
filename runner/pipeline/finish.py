"""Everything after the last request: one line per sample, how the run ended, and what the caller is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from runner.core import counted, duration
from runner.dataset import RawRow, TextReader
from runner.errors import DatasetError, ReportFailed, RunStopped, output_failed
from runner.pipeline.manifest import RunManifest
from runner.pipeline.open import OpenRun
from runner.pipeline.report_process import write_report
from runner.planning import row_lookup
from runner.results import Aggregation, RowCounts, write_samples

log = logging.getLogger(__name__)


class RunSummary(msgspec.Struct, frozen=True):
    """How a run ended.

    Attributes:
        directory: where its rows are.
        exit_code: see docs/cli.md.
        stop_reason: why it ended before everything was asked; None where it did not.
        message: the same for a person.
        total: requests the run is about.
        counts: of the rows there are now, earlier runs included.
        asked: rows written by this call.
        elapsed_s: seconds this call took.
        retries: attempts that were repeated.
        throttled: 429s.
        lanes: which asked, in their order.
        in_batches: requests in batches that are open.
        open_batches: how many those are; an embedded emulator's end with the run.
        report: the page, where one was asked for and made.
    """

    directory: Path
    exit_code: int
    stop_reason: str | None
    message: str | None
    total: int
    counts: RowCounts
    asked: int
    elapsed_s: float
    retries: int
    throttled: int
    lanes: tuple[str, ...] = ()
    in_batches: int = 0
    open_batches: int = 0
    report: Path | None = None

    def lines(self) -> Iterator[str]:
        """How it ended, for a person."""
        counts = self.counts
        rate = self.asked / self.elapsed_s if self.elapsed_s else 0.0
        rows = {
            "rows": f"{counts.done:,} of {self.total:,}",
            "ok / unparsed / failed": f"{counts.ok:,} / {counts.unparsed:,} / {counts.failed:,}",
            "asked now": f"{self.asked:,} in {duration(self.elapsed_s)} ({rate:.1f} rows/s)",
            "retries / 429s": f"{self.retries:,} / {self.throttled:,}",
            "tokens": f"{counts.prompt_tokens:,} + {counts.completion_tokens:,}",
        }
        if counts.cost:
            rows["cost"] = f"{counts.cost:.4f}"
        if len(self.lanes) > 1:
            rows["lanes"] = ", then ".join(self.lanes)
        if self.open_batches:
            batches = counted(self.open_batches, "batch", "batches")
            rows["in batches"] = f"{self.in_batches:,} in {batches}, which the same command collects later"
        if self.report is not None:
            rows["report"] = str(self.report)
        rows["run directory"] = str(self.directory)
        return (f"{name:<24}{value}" for name, value in rows.items())

    def problem(self) -> str | None:
        """Why it stopped early, or why its exit code is 1."""
        if self.message is not None:
            return f"{self.stop_reason}: {self.message}"
        if self.exit_code != 1:
            return None
        bad = self.counts.unparsed + self.counts.failed
        return (
            f"{bad:,} of {self.counts.done:,} rows are not ok, more than output.tolerate allows: "
            "error_type and error_message of each say why, --retry failed,unparsed asks them again"
        )


def finish_run(opened: OpenRun, record: RunManifest, stop: RunStopped | None) -> RunSummary:
    """Write samples.parquet, run.json and status.json, and say how the run ended."""
    if not record.aborted and (stop is None or stop.reason != "output"):
        try:
            _write_samples(opened)
        except (OSError, pa.ArrowException) as error:
            stop = stop or output_failed(error)
        except DatasetError as error:
            message = f"samples.parquet was not written: {error}; run the same command again when it can be read"
            stop = stop or RunStopped("dataset", message, exit_code=3)
    if stop is None and record.counts.done < opened.total:
        stop = RunStopped("incomplete", "some requests have no row; run the same command again", exit_code=4)
    code, reason = _ended(opened, record, stop)
    try:
        record.end(code, reason)
    except RunStopped as error:
        stop = stop or error
        code, reason = stop.exit_code, stop.reason
    embedded = {service.name for service in opened.inputs.config.services if service.kind == "emulator"}
    log.info("ended with %d%s", code, "" if stop is None else f": {stop}")
    return RunSummary(
        directory=opened.directory.path,
        exit_code=code,
        stop_reason=reason,
        message=None if stop is None else str(stop),
        total=opened.total,
        counts=record.counts,
        asked=record.asked,
        elapsed_s=record.elapsed_s,
        retries=record.traffic.retries,
        throttled=record.traffic.throttled,
        lanes=record.lanes,
        in_batches=opened.done.submitted(),
        open_batches=len([shard for shard in opened.ledger.open_shards if shard.service not in embedded]),
        report=_report(opened) if stop is None else None,  # last: its time is not the asking's
    )


def _report(opened: OpenRun) -> Path | None:
    """The report's page, where the YAML asks for it; a run whose report fails has all its rows nevertheless."""
    config = opened.inputs.config
    if config.report is None:
        return None
    try:
        return write_report(config)
    except ReportFailed as error:
        again = f"`judge-runner report {opened.directory.path}` tries again"
        log.warning("the report was not written: %s; %s", error, again)
        return None


def _ended(opened: OpenRun, record: RunManifest, stop: RunStopped | None) -> tuple[int, str | None]:
    if stop is not None:
        return stop.exit_code, stop.reason
    counts = record.counts
    bad = (counts.unparsed + counts.failed) / max(1, counts.done)
    return (0 if bad <= opened.inputs.config.output.tolerate else 1), None


def _write_samples(opened: OpenRun) -> None:
    checked, config = opened.inputs, opened.inputs.config
    how = Aggregation(
        score=config.aggregate.score,
        min_valid=config.aggregate.min_valid,
        variants=frozenset(opened.done.variants),
        swap=any(judge.swap for judge in config.judges),
        criteria={judge.name: judge.dimension for judge in config.judges if judge.dimension is not None},
    )
    extra = checked.reader.result_fields()
    kept = {field.name for field in extra}
    names = tuple(name for name in checked.texts if name not in kept) if config.output.texts else ()
    where, reader = row_lookup(checked, opened.fingerprint, _as_it_is), TextReader(checked.reader, names)

    def texts(ordinals: Sequence[int]) -> Sequence[pa.Array]:
        found = where.at(ordinals)
        return reader.columns([found.get(ordinal) for ordinal in ordinals])

    write_samples(opened.directory.path, extra, how, config.output.compression, names, texts)


def _as_it_is(row: RawRow) -> RawRow:
    return row
