"""Check that the results can hold a column, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from runner.results.schema import to_batch
from runner.values import Style, exact_rows, is_as_shown, shown_rows


def find_unstorable(fields: Iterable[pa.Field]) -> tuple[pa.Field, str] | None:
    """Return the first of the dataset's columns that results cannot hold, and why; None if they can hold all.

    A row of nulls takes the way of a row: into Arrow, into Parquet and back, through a selection of rows, and out.
    """
    for field in fields:
        if not is_as_shown(field.type):
            try:
                _pass_through(pa.schema([field]))
            except (pa.ArrowException, ValueError, OSError) as error:
                return field, str(error).splitlines()[0]
    return None


def _pass_through(schema: pa.Schema) -> None:
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches([to_batch([{}, {}], schema)]), out)
    table = pq.read_table(pa.BufferReader(out.getvalue()))
    if not table.schema.equals(schema):
        raise ValueError(f"Parquet would make it {table.schema.types[0]}")
    chosen = pa.concat_tables([table, table]).filter(pa.array([True, False] * 2)).take(pa.array([1, 0]))
    for batch in chosen.combine_chunks().to_batches():
        to_batch(exact_rows(batch), schema)
        shown_rows(batch, Style())
