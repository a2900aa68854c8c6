"""The requests inside submitted shards, as a starting run finds them: mark, compare, refresh their columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from runner.core import TEMPORARY_SUFFIX, open_private, put_in_place
from runner.dataset import RowLookup
from runner.errors import BadRow, RunDirectoryError
from runner.judge import Panel
from runner.lanes.batch.ledger import Ledger, ShardEntry
from runner.results import CompletionIndex, encode_row
from runner.types import Sample

ENTRIES_PER_LOOKUP = 512
_encode = msgspec.json.Encoder().encode


def entry_line(entry: ShardEntry) -> bytes:
    """Return an entry as a line of `members.jsonl`."""
    return _encode(entry) + b"\n"


def encode_columns(sample: Sample, float_columns: Collection[str]) -> msgspec.Raw:
    """Return a sample's result columns as JSON, the form in which an entry keeps them.

    `float_columns` are the columns that may hold numbers which JSON lacks.
    """
    return msgspec.Raw(encode_row(dict(sample.columns), float_columns))


def ordinal_and_variant(panel: Panel, custom_id: str) -> tuple[int, int]:
    """Return the ordinal and the variant of a request; raises RunDirectoryError if no judge makes this request."""
    place = panel.place(custom_id)
    if place is None:
        raise RunDirectoryError(f"{custom_id}: no judge of this configuration makes this request")
    return place


def mark_submitted(ledger: Ledger, panel: Panel, done: CompletionIndex, directory: Path) -> None:
    """Mark in `done` the requests that are in open shards, and those that a collected batch did not answer.

    Raises RunDirectoryError if a shard holds requests that this run does not cover: their answers would be lost.
    """
    for custom_id in ledger.leftovers():
        place = panel.place(custom_id)
        if place is not None and place[0] < done.samples and not done.replaces_row(custom_id):
            done.mark_unanswered(*place)
    for shard in ledger.open_shards:
        if shard.is_collected:
            continue
        for entry in ledger.read_members(shard.number):
            place = panel.place(entry.custom_id)
            if place is None or place[0] >= done.samples:
                why = "no judge makes this request any more" if place is None else "it is beyond --limit"
                raise RunDirectoryError(
                    f"{directory}: batch {shard.batch_id or shard.number} holds the request {entry.custom_id}, but "
                    f"{why}. Collect the open batches first, with the judges and the limit they were made with"
                )
            done.submit(*place)


def batches_replacing_rows(ledger: Ledger) -> dict[str, str | None]:
    """Return, by custom_id, the batch of each request in an open shard whose answer will replace a row."""
    shards = [shard for shard in ledger.open_shards if shard.replaces]
    return {entry.custom_id: shard.batch_id for shard in shards for entry in ledger.read_members(shard.number)}


class SubmittedComparison(NamedTuple):
    """How many requests of open shards were compared, and the custom_ids of those that would differ now."""

    checked: int
    differing: list[str]


def compare_submitted(ledger: Ledger, panel: Panel, rows: RowLookup[Sample]) -> SubmittedComparison:
    """Compare the requests in open shards with those that the dataset would make now."""
    checked, differing = 0, []
    for shard in ledger.open_shards:
        for entries in _slices(ledger.read_members(shard.number)):
            samples = rows.at({entry.ordinal for entry in entries})
            checked += len(entries)
            differing += [e.custom_id for e in entries if _hash_now(panel, samples, e) != e.request_hash]
    return SubmittedComparison(checked, differing)


def refresh_submitted_columns(ledger: Ledger, rows: RowLookup[Sample], float_columns: Collection[str]) -> None:
    """Rewrite the dataset columns that entries of open shards carry. Raises OSError."""
    for shard in ledger.open_shards:
        path = ledger.members(shard.number)
        temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
        with open_private(temporary) as file:
            for entries in _slices(ledger.read_members(shard.number)):
                samples = rows.at({entry.ordinal for entry in entries})
                file.writelines(entry_line(_refreshed(entry, samples, float_columns)) for entry in entries)
        put_in_place(temporary, path)


def _refreshed(entry: ShardEntry, samples: dict[int, Sample], float_columns: Collection[str]) -> ShardEntry:
    sample = samples.get(entry.ordinal)
    if sample is None:
        return entry
    return msgspec.structs.replace(entry, sample_id=sample.id, columns=encode_columns(sample, float_columns))


def _slices(entries: Iterable[ShardEntry]) -> Iterator[list[ShardEntry]]:
    queue = iter(entries)
    while some := list(islice(queue, ENTRIES_PER_LOOKUP)):
        yield some


def _hash_now(panel: Panel, samples: dict[int, Sample], entry: ShardEntry) -> str | None:
    """Return the hash of the request as it would be made now, or None if it cannot be made."""
    place, sample = panel.place(entry.custom_id), samples.get(entry.ordinal)
    if place is None:
        return entry.request_hash
    try:
        return None if sample is None else panel.request(sample, place[1]).request_hash
    except BadRow:
        return None
