"""Typed Parquet columns as fields, labels, ids, models and kept columns of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrow_runs import ArrowRun, arrow_run
from bench_run import emulator

from runner.errors import ConfigError, DatasetError
from runner.report.data.tables import ReportError
from runner.report.write import write_report

Judge = Callable[..., ArrowRun]
NOT_TEXT = [b"\xff\xfe", "好".encode()]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of an emulator that answers at once."""
    with emulator() as address:
        yield address


@pytest.fixture
def judge(url: str, tmp_path: Any) -> Judge:
    """Returns a function that writes a dataset of columns; keyword arguments are the keys of the configuration."""

    def prepare(columns: dict[str, Any], keys: dict[str, Any] | None = None, **options: Any) -> ArrowRun:
        rows = len(next(iter(columns.values())))
        ids, questions = ([f"{letter}{n}" for n in range(rows)] for letter in "sq")
        usual = {"id": ids, "question": questions, "answer": ["a"] * rows}
        table = pa.table({**usual, **columns})
        return ArrowRun(tmp_path, url, table, keys or {}, **options)

    return prepare


def unreadable_text(values: list[bytes]) -> pa.Array:
    """A text column that holds any bytes, as careless writers leave them."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values).buffers())


PRICES = pa.array([Decimal("1.50"), Decimal("20.00")])
DAYS = pa.array([date(2024, 1, 1), date(1, 1, 1)])


def test_decimals_dates_and_singles_are_shown_without_quotes_and_tails(judge: Judge) -> None:
    columns = {
        "price": PRICES,
        "day": DAYS,
        "ratio": pa.array([0.1, 4.25], pa.float32()),
        "all": pa.array([{"p": Decimal("1.50"), "d": date(2024, 1, 1)}] * 2),
    }
    run = judge(columns, {"judge.user": "{price}|{day}|{ratio}|{all}|{all.p}"})
    assert run.prompts == [
        '1.50|2024-01-01|0.1|{"p":1.50,"d":"2024-01-01"}|1.50',
        '20.00|0001-01-01|4.25|{"p":1.50,"d":"2024-01-01"}|1.50',
    ]


def test_a_decimal_is_a_number_for_pai_and_labels_and_text_for_models(judge: Judge) -> None:
    keys = {
        "dataset.fields": {"answer": "price", "model": "day", "reference": "day"},
        "dataset.human_label": "price",
        "dataset.keep": {"text": {"column": "price", "type": "string"}, "day": "day", "price": "price"},
    }
    run = judge({"price": PRICES, "day": DAYS}, {"judge": {"kind": "pai_single"}, **keys})
    assert run.run() == 0
    samples = run.tables["samples"].to_pylist()
    assert [row["answer"] for row in samples] == ["1.50", "20.00"]
    assert [row["model"] for row in samples] == ["2024-01-01", "0001-01-01"]
    assert [row["human_score"] for row in samples] == [1.5, 20.0]
    assert [row["text"] for row in samples] == ["1.50", "20.00"]
    assert [row["price"] for row in samples] == PRICES.to_pylist()
    assert [row["day"] for row in samples] == DAYS.to_pylist()


def test_text_in_binary_columns_is_the_text(judge: Judge) -> None:
    raw = pa.array(["什么是水？".encode(), b"fire"])
    keys = {"dataset.fields": {"answer": "raw", "model": "raw", "id": "raw"}, "dataset.keep": ["raw"]}
    run = judge({"raw": raw}, keys, store_schema=False)
    assert run.prompts == ["Rate q0: 什么是水？", "Rate q1: fire"]
    assert run.run() == 0
    samples = run.tables["samples"]
    assert samples["model"].to_pylist() == samples["answer"].to_pylist() == ["什么是水？", "fire"]
    assert samples["sample_id"].to_pylist() == ["什么是水？", "fire"]
    assert samples["raw"].combine_chunks().equals(raw)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"dataset.fields": {"answer": "raw"}}, "`{answer}`: found bytes that are no UTF-8 text; expected a text"),
        ({"judge.user": "{inner} {question}"}, "`{inner}`: found bytes that are no UTF-8 text; expected a text"),
        ({"dataset.fields": {"id": "raw"}}, "the id is bytes that are no UTF-8 text; expected a text or a number"),
        ({"dataset.fields": {"model": "raw"}}, "field `model`: found bytes that are no UTF-8 text"),
        ({"dataset.human_label": "raw"}, "column 'raw': found bytes that are no UTF-8 text"),
        ({"dataset.keep": {"k": {"column": "raw", "type": "string"}}}, "column 'raw': found bytes that are no UTF-8"),
        ({"dataset.keep": {"k": "spoilt"}}, "column 'spoilt': found a text that is not UTF-8"),
        ({"dataset.fields": {"answer": "spoilt"}}, "`{answer}`: found a text that is not UTF-8; expected a text"),
        ({"dataset.fields": {"answer": "inner.raw.0"}}, "`{answer}`: found bytes that are no UTF-8 text"),
    ],
)
def test_bytes_that_are_no_text_make_a_bad_row_that_says_so(judge: Judge, keys: dict[str, Any], problem: str) -> None:
    columns = {
        "raw": pa.array(NOT_TEXT),
        "inner": pa.array([{"raw": [value]} for value in NOT_TEXT]),
        "spoilt": unreadable_text(NOT_TEXT),
    }
    run = judge(columns, keys)
    assert any(problem in warning for warning in run.preview().warnings)
    assert run.run() == 1
    first, second = run.tables["rows"].to_pylist()
    assert (first["status"], first["error_type"]) == ("failed", "bad_row")
    assert problem in first["error_message"]
    assert second["error_type"] != "bad_row"
    assert "/w" not in " ".join(run.prompts)


def test_bytes_and_spoilt_texts_that_are_not_used_do_no_harm(judge: Judge) -> None:
    raw = pa.array(NOT_TEXT)
    run = judge({"raw": raw, "spoilt": unreadable_text(NOT_TEXT)}, {"dataset.keep": ["raw"]})
    assert run.run() == 0
    assert run.tables["samples"]["raw"].combine_chunks().equals(raw)


def test_nanoseconds_inside_a_struct_spoil_nothing(judge: Judge) -> None:
    kind = pa.struct([("text", pa.string()), ("created", pa.timestamp("ns")), ("took", pa.duration("ns"))])
    rec = pa.array([{"text": "t", "created": 1_700_000_000_123_456_789, "took": 1}, None], kind)
    keys = {
        "dataset.fields": {"answer": "rec.text"},
        "dataset.keep": {"text": "rec.text", "created": "rec.created", "rec": "rec"},
        "judge.user": "{question} {rec.created} {rec.took}",
    }
    run = judge({"rec": rec}, keys)
    assert run.prompts == ["q0 2023-11-14T22:13:20.123456789 PT0.000000001S", "q1  "]
    assert run.run() == 0
    samples = run.tables["samples"]
    assert samples["sample_id"].to_pylist() == ["s0", "s1"]
    assert samples["rec"].combine_chunks().equals(rec)
    assert samples["created"].combine_chunks().equals(rec.flatten()[1])


@pytest.mark.parametrize("store_schema", [True, False])
def test_int96_times_beyond_the_year_2262_are_what_spark_wrote(judge: Judge, store_schema: bool) -> None:
    times = pa.array([datetime(9999, 12, 31), datetime(1, 1, 1)], pa.timestamp("us"))
    options = {"use_deprecated_int96_timestamps": True, "store_schema": store_schema}
    run = judge({"at": times}, {"dataset.keep": ["at"], "dataset.fields": {"answer": "at"}}, **options)
    assert run.prompts == ["Rate q0: 9999-12-31T00:00:00", "Rate q1: 0001-01-01T00:00:00"]
    assert run.run() == 0
    assert run.tables["samples"]["at"].combine_chunks().equals(times)


def test_int96_nanoseconds_of_pyarrow_stay(judge: Judge) -> None:
    times = pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns"))
    run = judge({"at": times}, {"dataset.keep": ["at"]}, use_deprecated_int96_timestamps=True)
    assert run.run() == 0
    assert run.tables["rows"]["at"].combine_chunks().equals(times)


def test_labels_of_any_number_type_are_the_same_numbers(judge: Judge) -> None:
    columns = {
        "single": pa.array([4.2, 0.1], pa.float32()),
        "wide": pa.array([Decimal("4.2"), Decimal("0.1")], pa.decimal256(50, 1)),
        "text": pa.array(["4.2", "0.1"], pa.string_view()),
        "bytes": pa.array([b"4.2", b"0.1"]),
        "dictionary": pa.array(["4.2", "0.1"]).dictionary_encode(),
    }
    for name in columns:
        run = judge(columns, {"dataset.human_label": name, "output.directory": f"out_{name}"})
        assert run.run() == 0
        assert pq.read_table(run.folder / f"out_{name}/samples.parquet")["human_score"].to_pylist() == [4.2, 0.1]


def test_labels_of_bool8_and_dates_are_found_in_a_map(judge: Judge) -> None:
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
    days = {"2024-01-01": 5, "0001-01-01": 1}
    for name, column, labels in (("flag", flags, {"true": 5, "false": 1}), ("day", DAYS, days)):
        run = judge({name: column}, {"dataset.human_label": {"column": name, "map": labels}, "output.directory": name})
        assert run.run() == 0
        assert pq.read_table(run.folder / name / "samples.parquet")["human_score"].to_pylist() == [5.0, 1.0]


def test_a_column_name_that_occurs_twice_is_refused_where_it_is_used(url: str) -> None:
    twice = [pa.array(["a"]), pa.array(["b"])]
    for used, problem in (("answer", r"there are 2 columns 'answer'; it is not clear"), ("other", None)):
        names = ["question", *([] if used == "answer" else ["answer"])]
        table = pa.Table.from_arrays([pa.array(["q"])] * len(names) + twice, names=[*names, used, used])
        with arrow_run(url, table, {}) as run:
            if problem is None:
                assert run.run() == 0
            else:
                with pytest.raises(DatasetError, match=problem):
                    run.preview()


def test_a_struct_with_two_fields_of_one_name_is_refused(judge: Judge) -> None:
    struct = pa.StructArray.from_arrays([pa.array([1]), pa.array(["x"])], names=["a", "a"])
    with pytest.raises(DatasetError, match=r"column 'rec' has several fields 'a'; it is not clear which is meant"):
        judge({"rec": struct}, {"dataset.keep": ["rec"]}).preview()
    assert judge({"rec": struct}).run() == 0


@pytest.mark.parametrize("name", ["a.b", '"', "x\n", "0", "é", "a\0b", "list.element"])
def test_odd_column_names_are_names(judge: Judge, name: str) -> None:
    run = judge({name: [1, 2], "a": pa.array([{"b": 3, "c": 4}] * 2)}, {"dataset.keep": {name: {"column": name}}})
    assert run.run() == 0
    assert run.tables["samples"][name].to_pylist() == [1, 2]
    assert (run.export(), run.report(name)) == ([0] * 6, 0)


def test_a_kept_column_needs_a_name(judge: Judge) -> None:
    with pytest.raises(ConfigError, match="the name of a kept column is empty"):
        judge({"": [1]}, {"dataset.keep": {"": "question"}}).preview()
    assert judge({"": [1]}).run() == 0


def test_an_empty_table_is_refused_and_one_of_nulls_is_not(judge: Judge) -> None:
    keep = {"dataset.keep": {"nothing": "x"}}
    with pytest.raises(DatasetError, match=r"there are no rows|the dataset is empty"):
        judge({"x": pa.nulls(0)}, keep).preview()
    assert judge({"x": pa.nulls(0)}, keep).run() == 2
    run = judge({"x": pa.nulls(2)}, keep)
    assert run.run() == 0
    assert run.tables["rows"]["nothing"].type == pa.null()


def test_columns_of_views_are_read_again_after_a_part_of_them_is_done(judge: Judge) -> None:
    views = pa.array(["x", None, "z"], pa.string_view())
    run = judge({"view": views, "blob": pa.array([b"\xff"] * 3, pa.binary_view())}, {"dataset.keep": ["view", "blob"]})
    assert (run.run(limit=1), run.run(limit=2), run.run()) == (0, 0, 0)
    samples = run.tables["samples"]
    assert samples["view"].to_pylist() == ["x", None, "z"]
    assert samples["blob"].to_pylist() == [b"\xff"] * 3


def test_typed_values_wait_in_the_ledger_of_a_batch(judge: Judge) -> None:
    columns = {
        "price": PRICES,
        "moment": pa.array([2**63 - 1, None], pa.timestamp("ns", "UTC")),
        "raw": pa.array(
            [{"b": b"\xff", "f": float("inf")}, None], pa.struct([("b", pa.binary()), ("f", pa.float32())])
        ),
    }
    keys = {"dataset.keep": list(columns), "router.mode": "batch", "batch.poll": {"first": 0.05, "ceiling": 0.2}}
    run = judge(columns, keys)
    assert run.run() == 0
    assert set(run.tables["rows"]["route"].to_pylist()) == {"batch"}
    for name, column in columns.items():
        assert run.tables["rows"][name].combine_chunks().equals(column)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**62, None], pa.timestamp("ms")),
        pa.nulls(2, pa.struct([("inner", pa.struct([("", pa.null())]))])),
    ],
    ids=["far time", "struct of a nameless field"],
)
def test_a_column_that_duckdb_cannot_group_is_named(judge: Judge, column: pa.Array) -> None:
    run = judge({"odd": column}, {"dataset.keep": ["odd"]})
    assert run.run() == 0
    assert (run.report(), run.report("odd")) == (0, 2)
    with pytest.raises(ReportError, match=r"report\.group_by: 'odd' cannot be grouped: "):
        write_report(run.folder / "out", ("odd",))
