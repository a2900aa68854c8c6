"""Where samples come from: files, their rows, and what the columns mean."""

from __future__ import annotations

from runner.dataset.feed import Feed
from runner.dataset.files import DataFile, discover
from runner.dataset.formats import NextWanted, RawRow
from runner.dataset.headers import Columns, check_columns, columns
from runner.dataset.reading import NEVER, chunks, everything, pending
from runner.dataset.samples import SampleReader
from runner.dataset.surveys import FileSurvey, Growth, Survey, growth, survey
from runner.dataset.texts import TextReader

__all__ = [
    "NEVER",
    "Columns",
    "DataFile",
    "Feed",
    "FileSurvey",
    "Growth",
    "NextWanted",
    "RawRow",
    "SampleReader",
    "Survey",
    "TextReader",
    "check_columns",
    "chunks",
    "columns",
    "discover",
    "everything",
    "growth",
    "pending",
    "survey",
]
