"""Where rows go, and how what is there is found again: journal segments, closed parts, one line per sample."""

from __future__ import annotations

from runner.results.completion import CompletionIndex, RowCounts, VariantKey, scan
from runner.results.exporter import export, rows_so_far
from runner.results.journal import encode_row, read_segment, segment_paths, writable
from runner.results.parts import part_paths, read_batches, rewrite_part
from runner.results.recorder import ResultRecorder
from runner.results.recovery import recover
from runner.results.run_directory import RunDirectory, move_aside, schema_text
from runner.results.samples import TEXT_FIELDS, Aggregation, write_samples
from runner.results.schema import (
    TRANSIENT_ERROR_TYPES,
    needing_revival,
    own_floats,
    results_schema,
    revive,
    verdict_columns,
)
from runner.results.writer import ResultWriter

__all__ = [
    "TEXT_FIELDS",
    "TRANSIENT_ERROR_TYPES",
    "Aggregation",
    "CompletionIndex",
    "ResultRecorder",
    "ResultWriter",
    "RowCounts",
    "RunDirectory",
    "VariantKey",
    "encode_row",
    "export",
    "move_aside",
    "needing_revival",
    "own_floats",
    "part_paths",
    "read_batches",
    "read_segment",
    "recover",
    "results_schema",
    "revive",
    "rewrite_part",
    "rows_so_far",
    "scan",
    "schema_text",
    "segment_paths",
    "verdict_columns",
    "writable",
    "write_samples",
]
