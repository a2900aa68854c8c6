"""Stored results: journal segments, closed Parquet parts and the samples table, and how a later run finds them."""

from __future__ import annotations

from runner.results.causes import Cause, commonest
from runner.results.common_scale import CommonScale
from runner.results.completion import CompletionIndex, VariantKey, load_completion_index
from runner.results.exporter import export_journal, export_results, open_snapshot
from runner.results.journal import encode_row, read_segment, replace_surrogates, segment_paths
from runner.results.part_check import check_parts
from runner.results.parts import part_paths, read_part_batches, rewrite_part
from runner.results.recorder import ResultRecorder
from runner.results.recovery import add_missing_columns, recover_results
from runner.results.rejected import Rejected
from runner.results.row_counts import RowCounts
from runner.results.run_directory import RunDirectory, move_aside, schema_text
from runner.results.samples import Aggregation, write_samples
from runner.results.schema import (
    TRANSIENT_ERROR_TYPES,
    dataset_fields,
    extra_float_columns,
    results_schema,
    verdict_columns,
)
from runner.results.shared_ids import find_shared_ids
from runner.results.storable import find_unstorable
from runner.results.writer import ResultWriter

__all__ = [
    "TRANSIENT_ERROR_TYPES",
    "Aggregation",
    "Cause",
    "CommonScale",
    "CompletionIndex",
    "Rejected",
    "ResultRecorder",
    "ResultWriter",
    "RowCounts",
    "RunDirectory",
    "VariantKey",
    "add_missing_columns",
    "check_parts",
    "commonest",
    "dataset_fields",
    "encode_row",
    "export_journal",
    "export_results",
    "extra_float_columns",
    "find_shared_ids",
    "find_unstorable",
    "load_completion_index",
    "move_aside",
    "open_snapshot",
    "part_paths",
    "read_part_batches",
    "read_segment",
    "recover_results",
    "replace_surrogates",
    "results_schema",
    "rewrite_part",
    "schema_text",
    "segment_paths",
    "verdict_columns",
    "write_samples",
]
