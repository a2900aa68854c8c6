"""The requests that are in shards, as a run that begins finds them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from runner.core import TEMPORARY_SUFFIX, put_in_place
from runner.dataset import RowLookup
from runner.errors import BadRow, RunDirectoryError
from runner.judge import Panel
from runner.lanes.batch.ledger import Ledger, ShardEntry
from runner.results import CompletionIndex, encode_row
from runner.types import Sample

SLICE = 512
_encode = msgspec.json.Encoder().encode


def member_line(member: ShardEntry) -> bytes:
    """A member as a line of its file."""
    return _encode(member) + b"\n"


def columns_of(sample: Sample, floats: Collection[str]) -> msgspec.Raw:
    """What the rows of a sample carry, as a member keeps it."""
    return msgspec.Raw(encode_row(dict(sample.columns), floats))


def place_of(panel: Panel, custom_id: str) -> tuple[int, int]:
    """The ordinal and the variant of a request in a shard; raises RunDirectoryError where no judge asks it."""
    place = panel.place(custom_id)
    if place is None:
        raise RunDirectoryError(f"{custom_id}: no judge of this configuration asks this")
    return place


def claim(ledger: Ledger, panel: Panel, done: CompletionIndex, where: Path) -> None:
    """Note in `done` which requests are in shards, and which were in one without an answer.

    Raises RunDirectoryError where a shard holds requests that this run is not about: they would be lost to it.
    """
    for custom_id in ledger.leftovers():
        place = panel.place(custom_id)
        if place is not None and place[0] < done.samples and custom_id not in done.owners:
            done.mark_unanswered(*place)
    for shard in ledger.open_shards:
        if shard.is_collected:
            continue
        for member in ledger.read_members(shard.number):
            place = panel.place(member.custom_id)
            if place is None or place[0] >= done.samples:
                why = "no judge asks it any more" if place is None else "it is beyond --limit"
                raise RunDirectoryError(
                    f"{where}: batch {shard.batch_id or shard.number} holds the request {member.custom_id}, but {why}. "
                    "Collect the open batches first, with the judges and the limit they were made with"
                )
            done.submit(*place)


def replaced(ledger: Ledger) -> dict[str, str | None]:
    """For each request in an open shard that replaces rows: the batch its new row will name."""
    shards = [shard for shard in ledger.open_shards if shard.replaces]
    return {member.custom_id: shard.batch_id for shard in shards for member in ledger.read_members(shard.number)}


class Refreshed(NamedTuple):
    """How many requests of open shards were looked at, and those that would ask something else now."""

    checked: int
    differing: list[str]


def compare(ledger: Ledger, panel: Panel, cursor: RowLookup[Sample]) -> Refreshed:
    """Compare what open shards ask with what the dataset asks now."""
    checked, differing = 0, []
    for shard in ledger.open_shards:
        for members in _slices(ledger.read_members(shard.number)):
            samples = cursor.at({member.ordinal for member in members})
            checked += len(members)
            differing += [m.custom_id for m in members if _hash(panel, samples, m) != m.request_hash]
    return Refreshed(checked, differing)


def refresh(ledger: Ledger, cursor: RowLookup[Sample], floats: Collection[str]) -> None:
    """Write anew what the rows of open shards carry of the dataset. Raises OSError."""
    for shard in ledger.open_shards:
        path = ledger.members(shard.number)
        temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
        with temporary.open("wb") as file:
            for members in _slices(ledger.read_members(shard.number)):
                samples = cursor.at({member.ordinal for member in members})
                file.writelines(member_line(_fresh(member, samples, floats)) for member in members)
        put_in_place(temporary, path)


def _fresh(member: ShardEntry, samples: dict[int, Sample], floats: Collection[str]) -> ShardEntry:
    sample = samples.get(member.ordinal)
    if sample is None:
        return member
    return msgspec.structs.replace(member, sample_id=sample.id, columns=columns_of(sample, floats))


def _slices(members: Iterable[ShardEntry]) -> Iterator[list[ShardEntry]]:
    queue = iter(members)
    while some := list(islice(queue, SLICE)):
        yield some


def _hash(panel: Panel, samples: dict[int, Sample], member: ShardEntry) -> str | None:
    place, sample = panel.place(member.custom_id), samples.get(member.ordinal)
    if place is None:
        return member.request_hash
    try:
        return None if sample is None else panel.request(sample, place[1]).request_hash
    except BadRow:
        return None
