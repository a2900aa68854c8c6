"""Read the state of a run directory without changing it, even while another process is writing there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from runner.dataset import DatasetFingerprint, take_fingerprint
from runner.errors import RunDirectoryError
from runner.judge import Panel
from runner.lanes.batch import Ledger
from runner.limits import NO_CAPS, SPEND_COLUMNS, ZERO_SPEND, Spend, caps_of, read_spent, spent_by, spent_in_parts
from runner.planning.fingerprints import check_request_fingerprint, request_fingerprint
from runner.planning.inputs import RunInputs, RunOptions, variant_keys
from runner.results import (
    TRANSIENT_ERROR_TYPES,
    CompletionIndex,
    RunDirectory,
    load_completion_index,
    part_paths,
    read_segment,
    segment_paths,
)
from runner.types import Row

JOURNAL_COLUMNS = (
    *("ordinal", "judge", "swapped", "repeat", "status", "error_type", "cached_tokens", "served_model"),
    *SPEND_COLUMNS,
)


class RunState(msgspec.Struct, frozen=True):
    """The state of a run.

    Attributes:
        fingerprint: row counts and content hashes of the dataset's files.
        done: the index of finished requests.
        used: what of the budget is used or reserved for open batches; zero without a budget.
    """

    fingerprint: DatasetFingerprint
    done: CompletionIndex
    used: Spend


def requests_asked(directory: RunDirectory, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the request fingerprint that later runs must keep; empty if no request has a row or is in an open batch.

    A run that stopped before its first row, because the model's name was wrong, can go on with the right one.

    Args:
        directory: the run directory.
        earlier: the content of its run.json.
    """
    if directory.has_rows() or (directory.has_shards() and Ledger(directory.batches, earlier.get("id")).open_shards):
        asked = dict(earlier.get("asking", {}))
        if earlier and not asked:
            raise directory.damaged_run("asking", "expected the requests that its rows answer, found none")
        return asked
    return {}


def known_dataset(directory: RunDirectory, earlier: Mapping[str, Any]) -> DatasetFingerprint | None:
    """Returns the dataset of the last run; None before the first. Raises RunDirectoryError.

    Args:
        directory: the run directory.
        earlier: the content of its run.json.
    """
    if not earlier:
        return None
    try:
        return DatasetFingerprint.from_data(earlier.get("dataset", {}))
    except msgspec.ValidationError as error:
        raise directory.damaged_run("dataset", error) from error


def read_run_state(inputs: RunInputs, options: RunOptions) -> RunState:
    """Read the dataset's row counts and the state of the run directory.

    Raises:
        DatasetError: the dataset cannot be read.
        RunDirectoryError: the run directory cannot be read or belongs to other requests.
    """
    directory = RunDirectory(inputs.config.output.directory)
    earlier = directory.read_run()
    check_request_fingerprint(
        str(directory.path), requests_asked(directory, earlier), request_fingerprint(inputs.config)
    )
    fingerprint = take_fingerprint(inputs.files, known_dataset(directory, earlier))
    samples = fingerprint.rows if options.limit is None else min(options.limit, fingerprint.rows)
    variants = variant_keys(inputs.panel)
    if not (directory.results.is_dir() or directory.journal.is_dir()):
        return RunState(fingerprint, CompletionIndex(samples, variants), ZERO_SPEND)
    used = ZERO_SPEND
    try:
        if caps_of(inputs.config.budget) != NO_CAPS:
            used = _used(directory, earlier.get("id"))
        journal_rows = list(_journal_rows(directory))
        done = load_completion_index(directory.path, samples, variants, options.retry)
    except OSError as error:
        raise RunDirectoryError(f"{directory.path}: cannot be read: {error.strerror or error}") from error
    for row in journal_rows:
        variant = variants.get((row["judge"], row["swapped"], row["repeat"]))
        if variant is not None and not _is_retried(row, options.retry):
            done.mark_answered(row, variant)
    for ordinal, variant in _submitted_requests(directory, inputs.panel):
        if ordinal < samples:
            done.submit(ordinal, variant)
    return RunState(fingerprint, done, used)


def _used(directory: RunDirectory, run_id: str | None) -> Spend:
    """Returns what of the budget is used, and what is reserved for open batches.

    Rows that become a part in the meantime are missed, not counted twice; budget.json, which the running process
    writes, includes them.
    """
    rows = spent_in_parts(directory.results) + spent_by(_journal_rows(directory))
    shards = [shard for shard in Ledger(directory.batches, run_id).open_shards if not shard.is_collected]
    reserved = sum((shard.reserved or ZERO_SPEND for shard in shards), ZERO_SPEND)
    return rows.maximum(read_spent(directory.budget, run_id) or ZERO_SPEND) + reserved


def _journal_rows(directory: RunDirectory) -> Iterator[Row]:
    """Yield the rows that are in no part yet.

    They must be read before the parts, so that no row is missed if its segment becomes a part in the meantime.
    """
    parts = part_paths(directory.results)
    for number, path in segment_paths(directory.journal).items():
        if number not in parts:
            with suppress(FileNotFoundError):  # it has just become a part
                for _, row in read_segment(path):
                    yield {name: row.get(name) for name in JOURNAL_COLUMNS}  # an earlier version knew less


def _submitted_requests(directory: RunDirectory, panel: Panel) -> Iterator[tuple[int, int]]:
    """Yield ordinal and variant of each request in a batch that is not collected yet."""
    ledger = Ledger(directory.batches)
    for shard in ledger.open_shards:
        with suppress(RunDirectoryError):  # it has just been collected
            for entry in ledger.read_members(shard.number):
                place = panel.place(entry.custom_id)
                if place is not None:
                    yield place


def _is_retried(row: Row, retry: Collection[str]) -> bool:
    return row["status"] in retry or (row["status"] == "failed" and row["error_type"] in TRANSIENT_ERROR_TYPES)
