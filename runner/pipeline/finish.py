"""Finish a run: write samples.parquet, run.json and status.json, start the report, return the summary."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from runner.core import counted, duration
from runner.dataset import RawRow, TextReader, growth, take_fingerprint
from runner.errors import DatasetError, ReportFailed, RunDirectoryError, RunStopped, output_failed
from runner.lanes.batch import failed_batches
from runner.pipeline.manifest import RunManifest
from runner.pipeline.open import OpenRun
from runner.pipeline.report_process import write_report
from runner.planning import row_lookup
from runner.results import Aggregation, Cause, RowCounts, commonest, find_shared_ids, write_samples

log = logging.getLogger(__name__)


class RunSummary(msgspec.Struct, frozen=True):
    """How a run ended.

    Attributes:
        directory: the run directory.
        exit_code: the exit code of the command (docs/cli.md).
        stop_reason: why the run ended before every request had its row; None if every request has one.
        message: the same as a sentence for the user.
        total: the number of requests of the run.
        counts: counts of all stored rows, including those of earlier calls.
        asked: rows written by this call.
        elapsed_s: the duration of this call in seconds.
        retries: attempts that were repeated, in all calls.
        throttled: responses with status 429, in all calls.
        lanes: the lanes that ran, in order, including earlier calls.
        in_batches: requests in open batches.
        open_batches: the number of open batches, without those of an embedded emulator, which end with the run.
        report: the path of the report's page; None if no report was requested or it failed.
        report_problem: that and why the requested report was not written, and what to do, as one line; else None.
        beyond_limit: stored rows about later samples than those of this call (`--limit`).
        emulated: True if an emulator answered: the verdicts are made up.
        notes: what else a reader of the rows should know, a sentence each.
        causes: why rows are not `ok`, the commonest first.
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
    report_problem: str | None = None
    emulated: bool = False
    beyond_limit: int = 0
    notes: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the summary as lines of text for the terminal."""
        counts = self.counts
        rate = self.asked / self.elapsed_s if self.elapsed_s else 0.0
        rows = {
            "rows": f"{counts.done:,} of {self.total:,}{self._beyond()}",
            "ok / unparsed / failed": f"{counts.ok:,} / {counts.unparsed:,} / {counts.failed:,}",
            "new in this run": f"{self.asked:,} in {duration(self.elapsed_s)} ({rate:.1f} rows/s)",
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
        elif self.report_problem is not None:
            rows["report"] = "not written"
        if self.emulated:
            rows["emulated"] = "the verdicts are made up"
        rows["run directory"] = str(self.directory)
        yield from (f"{name:<24}{value}" for name, value in rows.items())
        for number, cause in enumerate(self.causes):
            yield f"{'' if number else 'causes':<24}{cause}"

    def _beyond(self) -> str:
        if not self.beyond_limit:
            return ""
        return f" (--limit); {self.counts.done + self.beyond_limit:,} rows are stored"

    def problem(self) -> str | None:
        """Returns why the run stopped early or why its exit code is 1; None if neither applies."""
        if self.message is not None:
            return f"{self.stop_reason}: {self.message}"
        if self.exit_code != 1:
            return None
        bad = self.counts.unparsed + self.counts.failed
        often = f"most often {self.causes[0]}; " if self.causes else ""
        return (
            f"{bad:,} of {self.counts.done:,} rows are not ok, more than output.tolerate allows: {often}"
            "see error_type and error_message; --retry failed,unparsed sends these requests again"
        )


def finish_run(run: OpenRun, manifest: RunManifest, stop: RunStopped | None) -> RunSummary:
    """Write samples.parquet, run.json, status.json and the report, and return the summary.

    Args:
        run: the run.
        manifest: the record of its progress.
        stop: why the lanes stopped early; None if they did not.
    """
    stop = _finish_samples(run, manifest, stop)
    if stop is None and manifest.counts.done < run.total:
        stop = RunStopped("incomplete", "some requests have no row; run the same command again", exit_code=4)
    code, reason = _exit_code(run, manifest, stop)
    try:
        manifest.end(code, stop)
    except RunStopped as error:
        stop = stop or error
        code, reason = stop.exit_code, stop.reason
    embedded = {service.name for service in run.inputs.config.services if service.kind == "emulator"}
    log.info("ended with %d%s", code, "" if stop is None else f": {stop}")
    elapsed_s = manifest.elapsed_s  # without the time of the report
    report, report_problem = _write_report(run) if stop is None else (None, None)
    return RunSummary(
        directory=run.directory.path,
        exit_code=code,
        stop_reason=reason,
        message=None if stop is None else str(stop),
        total=run.total,
        counts=manifest.counts,
        asked=manifest.new_rows,
        elapsed_s=elapsed_s,
        retries=manifest.traffic.retries,
        throttled=manifest.traffic.throttled,
        beyond_limit=run.done.beyond,
        lanes=manifest.lanes,
        in_batches=run.done.submitted(),
        open_batches=len([shard for shard in run.ledger.open_shards if shard.service not in embedded]),
        report=report,
        report_problem=report_problem,
        emulated=manifest.emulated,
        notes=(*_rejected_notes(run), *manifest.model_notes(), *_id_notes(run, stop), *failed_batches(run.ledger)),
        causes=tuple(commonest(manifest.counts.causes.values())),
    )


def _finish_samples(run: OpenRun, manifest: RunManifest, stop: RunStopped | None) -> RunStopped | None:
    """Write samples.parquet unless the run was aborted or its output failed; returns `stop` or the new failure."""
    if manifest.aborted or (stop is not None and stop.reason == "output"):
        return stop
    try:
        if (change := _dataset_change(run)) is not None:
            return stop or RunStopped("dataset", change, exit_code=3)
        _write_samples(run)
    except (OSError, pa.ArrowException) as error:
        return stop or output_failed(error)
    except DatasetError as error:
        message = f"samples.parquet was not written: {error}; run the same command again when it can be read"
        return stop or RunStopped("dataset", message, exit_code=3)
    return stop


def _dataset_change(run: OpenRun) -> str | None:
    """Return what to do if a file of the dataset was rewritten during the run; None if none was.

    Its texts are not those that were judged. Raises DatasetError if it cannot be read.
    """
    now = take_fingerprint(run.inputs.files, run.fingerprint)
    if growth(run.fingerprint, now) != "changed":
        return None
    names = ", ".join(str(file.place) for file in run.inputs.files[:3])
    return (
        f"{names}: the dataset was changed during the run, and verdicts may belong to either version; samples.parquet "
        "is not written. Put the judged version back and run the same command again, or start over with --fresh"
    )


def _id_notes(run: OpenRun, stop: RunStopped | None) -> list[str]:
    """Say which ids belong to several samples, if all samples were written."""
    path = run.directory.path / "samples.parquet"
    if stop is not None or "id" not in run.inputs.reader.fields:
        return []
    try:
        shared = find_shared_ids(path)
    except (OSError, pa.ArrowException) as error:
        log.warning("%s cannot be read: %s", path, error)
        return []
    if shared is None:
        return []
    log.warning("%s", shared.described())
    return [shared.described()]


def _rejected_notes(run: OpenRun) -> list[str]:
    note = run.rejected.note()
    return [] if note is None else [note]


def _write_report(run: OpenRun) -> tuple[Path | None, str | None]:
    """Write the report if the configuration requests one.

    A failure does not change the exit code, because all rows are stored.

    Returns:
        The path of the page, or None; and what went wrong, or None.
    """
    config = run.inputs.config
    if config.report is None:
        return None, None
    try:
        return write_report(config), None
    except (ReportFailed, RunDirectoryError) as error:
        again = f"`judge-runner report {run.directory.path}` tries again"
        log.warning("the report was not written: %s; %s", error, again)
        return None, f"the report was not written: {str(error).splitlines()[-1].strip()}; {again}"


def _exit_code(run: OpenRun, manifest: RunManifest, stop: RunStopped | None) -> tuple[int, str | None]:
    """Returns the exit code and the stop reason."""
    if stop is not None:
        return stop.exit_code, stop.reason
    counts = manifest.counts
    bad_share = (counts.unparsed + counts.failed) / max(1, counts.done)
    return (0 if bad_share <= run.inputs.config.output.tolerate else 1), None


def _write_samples(run: OpenRun) -> None:
    inputs, config = run.inputs, run.inputs.config
    aggregation = Aggregation(
        score=config.aggregate.score,
        min_valid=config.aggregate.min_valid,
        variants=frozenset(run.done.variants),
        swap=any(judge.swap for judge in config.judges),
        criteria={judge.name: judge.dimension for judge in config.judges if judge.dimension is not None},
        common_scale=inputs.common_scale,
    )
    extra = inputs.reader.result_fields()
    extra_names = {field.name for field in extra}
    names = tuple(name for name in inputs.texts if name not in extra_names) if config.output.texts else ()
    lookup, reader = row_lookup(inputs, run.fingerprint, _unchanged), TextReader(inputs.reader, names)

    def texts(ordinals: Sequence[int]) -> Sequence[pa.Array]:
        found = lookup.at(ordinals)
        return reader.columns([found.get(ordinal) for ordinal in ordinals])

    write_samples(run.directory.path, extra, aggregation, config.output.compression, names, texts)


def _unchanged(row: RawRow) -> RawRow:
    return row
