"""Any Arrow table can be judged: every command ends with a message, and every kept value comes back as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrow_runs import ArrowRun, arrow_run
from arrow_tables import Column, columns, names
from bench_run import emulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROWS = 3
IS_LONG = os.environ.get("JUDGE_RUNNER_LONG") == "1"
EXAMPLES = 2_000 if IS_LONG else 10


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of an emulator that answers at once."""
    with emulator() as address:
        yield address


def table_of(columns: dict[str, pa.Array], rows: int = ROWS) -> pa.Table:
    """A dataset with an id, a question and these columns."""
    usual = {"id": [f"s{n}" for n in range(rows)], "question": [f"q{n}" for n in range(rows)]}
    return pa.table({**usual, **columns})


def check_kept(run: ArrowRun, source: pa.Table, given: dict[str, Column], repeats: int) -> None:
    """Compare every kept column with the dataset, in the rows, in the samples, and in the exports."""
    tables = run.tables
    assert {"rows", "samples"} <= tables.keys()
    for place, table in tables.items():
        times = repeats if "rows" in place else 1
        assert table.num_rows == times * source.num_rows
        for name, column in given.items():
            kept = table[name].combine_chunks()
            given_values = expected(source[name].combine_chunks(), column, kept.type)
            for repeat in range(times):
                found = pa.concat_arrays([kept.slice(times * row + repeat, 1) for row in range(source.num_rows)])
                assert found.equals(given_values), (place, name, kept.type)


def expected(stored: pa.Array, column: Column, kind: pa.DataType) -> pa.Array:
    """What the results must hold: what the file holds, or for encoded types the same values in the plain type."""
    if stored.type == kind:
        return stored
    assert column.kept is not None
    return column.kept if column.kept.type == kind else column.kept.cast(kind)


@st.composite
def datasets(draw: st.DrawFn) -> dict[str, Column]:
    """A few columns of any types; their names may be odd."""
    found = draw(st.lists(columns(ROWS), min_size=1, max_size=4))
    keys = draw(st.lists(names.filter(str.strip), min_size=len(found), max_size=len(found), unique=True))
    return dict(zip(keys, found, strict=True))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(given=datasets(), repeats=st.integers(1, 2), data=st.data())
def test_any_table_is_judged_and_its_kept_values_come_back(
    url: str, given: dict[str, Column], repeats: int, data: st.DataObject
) -> None:
    source = table_of({name: column.given for name, column in given.items()})
    field, group = (data.draw(st.sampled_from(sorted(given))) for _ in range(2))
    keep = {name: {"column": name} for name in given}
    keys = {"dataset.keep": keep, "dataset.fields": {"answer": field}, "judge.repeats": repeats}
    try:
        pq.write_table(source, pa.BufferOutputStream())
    except (pa.ArrowException, OSError):
        return  # no dataset can hold it
    with arrow_run(url, source, keys) as run:
        if run.validate():
            assert run.run() in (1, 2)  # no row has a text for the answer
            return
        assert run.run() in (0, 1)
        stored = pq.read_table(run.folder / "data.parquet")
        check_kept(run, stored, given, repeats)
        assert run.run(r"\b(\d+)\b") in (0, 1)  # the rows are read, parsed again and written again
        assert run.export() == [0] * 6
        check_kept(run, stored, given, repeats)
        assert run.report(group) in (0, 2)
        assert run.report() == 0
