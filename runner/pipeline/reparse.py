"""Rewrite stored rows after a change of the parser, of prices or of the dataset's columns; compare their requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pyarrow as pa

from runner.core import Price
from runner.dataset import RowLookup
from runner.errors import BadRow, RunDirectoryError
from runner.judge import Panel
from runner.lanes.batch import Ledger, compare_submitted
from runner.results import VariantKey, part_paths, read_part_batches, replace_surrogates, rewrite_part, verdict_columns
from runner.types import JudgeResponse, Row, Sample, Usage

DIFFERENCES_SHOWN = 5


class ReparseContext(msgspec.Struct, frozen=True):
    """The current settings by which stored rows are rewritten.

    Attributes:
        panel: parses the responses.
        variants: the number of each of the panel's variants; rows of other variants are not changed.
        prices: for each variant, the price of its tokens.
        lookup: reads the samples with the dataset's columns; None if these columns have not changed.
    """

    panel: Panel
    variants: dict[VariantKey, int]
    prices: tuple[Price, ...]
    lookup: RowLookup[Sample] | None


def reparse_rows(results: Path, schema: pa.Schema, compression: str, context: ReparseContext) -> int:
    """Parse every stored response again and replace the parts one by one.

    Every part is replaced atomically: an interruption leaves old and new parts, and a repetition does no harm.

    Args:
        results: the folder of the parts.
        schema: the schema of the new parts.
        compression: the Parquet compression of the new parts.
        context: the current settings.

    Returns:
        The number of rows.

    Raises:
        RunDirectoryError: a part cannot be read.
        OSError: a part cannot be written.
    """
    row_count = 0

    def change(rows: list[Row]) -> list[Row]:
        nonlocal row_count
        row_count += len(rows)
        samples = {} if context.lookup is None else context.lookup.at({row["ordinal"] for row in rows})
        for row in rows:
            sample = samples.get(row["ordinal"])
            if sample is not None:
                row.update(sample.columns, sample_id=sample.id)
            _reparse(row, context)
            row.update(replace_surrogates(row))
        return rows

    for path in part_paths(results).values():
        rewrite_part(path, schema, compression, change)
    return row_count


def _reparse(row: Row, context: ReparseContext) -> None:
    variant = context.variants.get(_variant_key(row))
    if variant is None or row["attempts"] == 0:
        return
    usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["total_tokens"], row.get("cached_tokens"))
    row["cost"] = context.prices[variant](usage, row["route"])
    if row["status"] != "failed":
        response = JudgeResponse(row["response"], row["finish_reason"], row["response_id"])
        row.update(verdict_columns(context.panel.read_variant(variant, response)))


def check_requests(directory: Path, context: ReparseContext, ledger: Ledger) -> None:
    """Compare the requests of all stored rows and open batches with those that the changed dataset gives now.

    Raises:
        RunDirectoryError: some requests would differ; the message says how many, and names some.
    """
    checked, differing = 0, 0
    examples: list[str] = []
    columns = ["ordinal", "judge", "swapped", "repeat", "custom_id", "request_hash"]
    for path in part_paths(directory / "results").values():
        for batch in read_part_batches(path, columns):
            rows = [row for row in batch.to_pylist() if row["request_hash"] is not None]
            changed = _changed_requests(rows, context)
            checked += len(rows)
            differing += len(changed)
            examples += changed[: DIFFERENCES_SHOWN - len(examples)]
    if context.lookup is not None:
        submitted = compare_submitted(ledger, context.panel, context.lookup)
        checked += submitted.checked
        differing += len(submitted.differing)
        examples += submitted.differing[: DIFFERENCES_SHOWN - len(examples)]
    if differing:
        raise RunDirectoryError(
            f"{directory}: the dataset no longer matches the stored rows: {differing:,} of {checked:,} requests "
            f"would differ now ({', '.join(examples)}{', ...' if differing > DIFFERENCES_SHOWN else ''}). "
            "Restore the dataset, choose another directory with --run-dir, or start over with --fresh"
        )


def _changed_requests(rows: list[Row], context: ReparseContext) -> list[str]:
    """Returns the custom_ids of the rows whose request would differ now."""
    samples = context.lookup.at({row["ordinal"] for row in rows}) if context.lookup is not None else {}
    return [row["custom_id"] for row in rows if _current_hash(row, samples, context) != row["request_hash"]]


def _current_hash(row: Row, samples: Mapping[int, Sample], context: ReparseContext) -> str | None:
    variant, sample = context.variants.get(_variant_key(row)), samples.get(row["ordinal"])
    if variant is None:
        return str(row["request_hash"])
    try:
        return None if sample is None else context.panel.request(sample, variant).request_hash
    except BadRow:
        return None


def _variant_key(row: Row) -> VariantKey:
    return row["judge"], row["swapped"], row["repeat"]
