"""The names of the result columns have one owner, `runner.types`; the rooms that add types agree with it."""

from __future__ import annotations

import pytest

from runner.report.data import run_files
from runner.results.schema import FIELDS
from runner.types import RESULT_COLUMNS


def test_the_schema_of_the_results_has_the_listed_columns():
    assert tuple(field.name for field in FIELDS) == RESULT_COLUMNS


def test_the_report_reads_only_listed_columns():
    assert set(run_files._RESULT_COLUMNS) <= set(RESULT_COLUMNS)


@pytest.mark.parametrize("name", ["votes", "score", "human_score", "model2"])
def test_no_kept_column_can_replace_a_result_column(load_error, name):
    message = load_error(f"judge: {{}}\ndataset: {{path: a, keep: [{name}]}}\n")
    assert f"'{name}' is a column of " in message
