"""Where samples come from: files, their rows, and what the columns mean."""

from __future__ import annotations

from runner.dataset.carried_columns import LabelKind
from runner.dataset.chunk_reader import NEVER, chunks, everything, pending
from runner.dataset.column_check import Columns, check_columns, check_template_paths, columns
from runner.dataset.data_file import DataFile
from runner.dataset.files import discover
from runner.dataset.fingerprint import DatasetFingerprint, FileFingerprint, Growth, growth, take_fingerprint
from runner.dataset.lookup import Read, RowLookup
from runner.dataset.prefetch import Prefetcher
from runner.dataset.readers import NextWanted, RawRow
from runner.dataset.samples import SampleReader
from runner.dataset.text_columns import TextReader

__all__ = [
    "NEVER",
    "Columns",
    "DataFile",
    "DatasetFingerprint",
    "FileFingerprint",
    "Growth",
    "LabelKind",
    "NextWanted",
    "Prefetcher",
    "RawRow",
    "Read",
    "RowLookup",
    "SampleReader",
    "TextReader",
    "check_columns",
    "check_template_paths",
    "chunks",
    "columns",
    "discover",
    "everything",
    "growth",
    "pending",
    "take_fingerprint",
]
