"""Going over rows that are there: reading answers again, comparing what they asked with what is asked now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pyarrow as pa

from runner.core import Price
from runner.dataset import RowLookup
from runner.errors import BadRow, RunDirectoryError
from runner.judge import Panel
from runner.lanes.batch import Ledger, compare
from runner.results import VariantKey, part_paths, read_batches, rewrite_part, verdict_columns, writable
from runner.types import JudgeResponse, Row, Sample, Usage

DIFFERENCES_SHOWN = 5


class ReparseContext(msgspec.Struct, frozen=True):
    """What rows are read again with.

    Attributes:
        panel: reads the verdicts.
        variants: its variants by judge, order and repeat; rows of others are left as they are.
        prices: for each variant.
        cursor: where the dataset's own columns come from; None where those did not change.
    """

    panel: Panel
    variants: dict[VariantKey, int]
    prices: tuple[Price, ...]
    cursor: RowLookup[Sample] | None


def reparse_rows(results: Path, schema: pa.Schema, compression: str, again: ReparseContext) -> int:
    """Read every stored answer again and replace the parts one by one; returns how many rows there are.

    A part is replaced whole, so that cutting this off leaves old and new parts, and doing it again is harmless.
    """
    rows_read = 0

    def change(rows: list[Row]) -> list[Row]:
        nonlocal rows_read
        rows_read += len(rows)
        columns = {} if again.cursor is None else again.cursor.at({row["ordinal"] for row in rows})
        for row in rows:
            sample = columns.get(row["ordinal"])
            if sample is not None:
                row.update(sample.columns, sample_id=sample.id)
            _read_again(row, again)
            row.update(writable(row))
        return rows

    for path in part_paths(results).values():
        rewrite_part(path, schema, compression, change)
    return rows_read


def _read_again(row: Row, again: ReparseContext) -> None:
    variant = again.variants.get(_variant_key(row))
    if variant is None or row["attempts"] == 0:
        return
    usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["total_tokens"])
    row["cost"] = again.prices[variant](usage, row["route"])
    if row["status"] != "failed":
        response = JudgeResponse(row["response"], row["finish_reason"], row["response_id"])
        row.update(verdict_columns(again.panel.read_variant(variant, response)))


def check_requests(directory: Path, again: ReparseContext, ledger: Ledger) -> None:
    """Compare what every stored row and open batch asked with what the dataset asks now, its bytes having changed.

    Raises RunDirectoryError with how many requests differ, and which.
    """
    checked, differing = 0, 0
    examples: list[str] = []
    columns = ["ordinal", "judge", "swapped", "repeat", "custom_id", "request_hash"]
    for path in part_paths(directory / "results").values():
        for batch in read_batches(path, columns):
            rows = [row for row in batch.to_pylist() if row["request_hash"] is not None]
            others = _differing(rows, again)
            checked += len(rows)
            differing += len(others)
            examples += others[: DIFFERENCES_SHOWN - len(examples)]
    if again.cursor is not None:
        submitted = compare(ledger, again.panel, again.cursor)
        checked += submitted.checked
        differing += len(submitted.differing)
        examples += submitted.differing[: DIFFERENCES_SHOWN - len(examples)]
    if differing:
        raise RunDirectoryError(
            f"{directory}: the dataset changed under the rows that are there: {differing:,} of {checked:,} requests "
            f"would ask something else now ({', '.join(examples)}{', ...' if differing > DIFFERENCES_SHOWN else ''}). "
            "Put the dataset back, or give another directory with --run-dir, or start anew with --fresh"
        )


def _differing(rows: list[Row], again: ReparseContext) -> list[str]:
    """The custom_ids of those rows that would ask something else now."""
    samples = again.cursor.at({row["ordinal"] for row in rows}) if again.cursor is not None else {}
    return [row["custom_id"] for row in rows if _hash_now(row, samples, again) != row["request_hash"]]


def _hash_now(row: Row, samples: Mapping[int, Sample], again: ReparseContext) -> str | None:
    variant, sample = again.variants.get(_variant_key(row)), samples.get(row["ordinal"])
    if variant is None:
        return str(row["request_hash"])
    try:
        return None if sample is None else again.panel.request(sample, variant).request_hash
    except BadRow:
        return None


def _variant_key(row: Row) -> VariantKey:
    return row["judge"], row["swapped"], row["repeat"]
