"""Datasets as people have them, from the file to the rows: each sample is asked once, also when the run is resumed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
COLUMNS = ("id", "question", "answer")
EARLY = 230

Rows = list[dict[str, Any]]


@pytest.fixture
def run(
    tmp_path: Path, cli: Callable[..., Any], plain_emulator: Any, rows: Callable[[Path], Rows]
) -> Callable[..., Any]:
    """Write judge.yaml with a dataset section, run it into `out`, and return how many requests it sent."""

    def judge(dataset: Mapping[str, Any], *flags: str, out: str = "out", exit_code: int = 0, **sections: Any) -> int:
        document = {
            "dataset": dataset,
            "judge": {},
            "service": {"base_url": plain_emulator.url, "token_env": None, "limits": {"concurrency": 4}},
            "output": {"directory": out},
            **sections,
        }
        (tmp_path / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")
        before = plain_emulator.stats()["requests"]
        finished = cli("run", "judge.yaml", *flags)
        assert finished.returncode == exit_code, finished.stderr
        judge.stderr = finished.stderr  # type: ignore[attr-defined]
        return int(plain_emulator.stats()["requests"]) - before

    return judge


@pytest.fixture
def ids(tmp_path: Path, rows: Callable[[Path], Rows]) -> Callable[..., list[Any]]:
    """Return one column of the rows in `out`, in the order of the samples."""

    def read(column: str = "sample_id", out: str = "out") -> list[Any]:
        return [row[column] for row in sorted(rows(tmp_path / out), key=lambda row: row["ordinal"])]

    return read


def table_of(*ids: str, **more: list[Any]) -> pa.Table:
    texts = {"question": [f"What is {name}?" for name in ids], "answer": [f"It is {name}." for name in ids]}
    return pa.table({"id": list(ids), **texts, **more})


def test_an_open_quote_ends_the_command_before_anything_is_sent(tmp_path: Path, run: Any) -> None:
    (tmp_path / "a.csv").write_text('id,question,answer\n1,Why?,"cut off\n2,When?,Now.\n', encoding="utf-8")
    assert run({"path": "a.csv"}, exit_code=2) == 0
    assert "a.csv:2: a quoted cell is never closed" in run.stderr
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_table_without_quoting_grows_in_one_run_directory(tmp_path: Path, run: Any, ids: Any) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('id\tquestion\tanswer\na\tWhy?\t"Begins\nb\tWhen?\tends"\n', encoding="utf-8")
    dataset = {"path": "a.tsv", "csv": {"quote": None}, "keep": {"text": "answer"}}
    assert run(dataset) == len(["a", "b"])
    assert ids("text") == ['"Begins', 'ends"']
    assert run(dataset) == 0
    with path.open("a", encoding="utf-8") as file:
        file.write('c\tWho?\tan 8" pipe\n')
    assert run(dataset) == 1
    assert ids() == ["a", "b", "c"]
    assert run({"path": "a.tsv"}, exit_code=2) == 0  # other rows now: nothing is asked


def test_other_options_that_read_the_same_rows_ask_nothing(tmp_path: Path, run: Any, ids: Any) -> None:
    (tmp_path / "a.csv").write_text("id;question;answer\n1;Why?;So.\n2;When?;Now.\n", encoding="utf-8")
    assert run({"path": "a.csv"}) == len(["1", "2"])
    assert run({"path": "a.csv", "csv": {"delimiter": ";", "quote": None}}) == 0
    assert ids() == ["1", "2"]


def test_a_bad_row_stays_one_row(tmp_path: Path, run: Any, ids: Any) -> None:
    text = 'id,question,answer\n1,Why?,So.\n2,What?,"a" and "b"\n3,When?,Now.\n'
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert run({"path": "a.csv"}, exit_code=1) == len(["1", "3"])
    assert ids() == ["1", "1", "3"]  # a bad row has its ordinal as its id
    assert ids("error_type") == [None, "bad_row", None]
    assert run({"path": "a.csv"}, exit_code=1) == 0


def test_a_table_in_gbk_is_sent_as_it_reads(tmp_path: Path, run: Any, ids: Any) -> None:
    (tmp_path / "a.csv").write_bytes("编号;问题;回答\n一;什么是水？;水是液体\n".encode("gbk"))
    fields = {"id": "编号", "question": "问题", "answer": "回答"}
    assert run({"path": "a.csv", "fields": fields}, exit_code=2) == 0
    assert "the header is not UTF-8; it looks like GBK" in run.stderr
    dataset = {"path": "a.csv", "fields": fields, "csv": {"encoding": "gbk"}, "keep": {"text": "回答"}}
    assert run(dataset) == 1
    assert (ids(), ids("text")) == (["一"], ["水是液体"])


def test_a_column_that_comes_late_is_asked_with_where_it_is(tmp_path: Path, run: Any, ids: Any) -> None:
    path = tmp_path / "a.jsonl"
    lines = [{"id": f"s{n}", "question": "Why?", "answer": f"So {n}."} for n in range(EARLY)]
    lines.append({"id": "gold", "question": "Why?", "answer": "So.", "gold": "Because.", "score": 4})
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    dataset: dict[str, Any] = {"path": "a.jsonl", "fields": {"reference": "gold"}, "human_label": "score"}
    assert run(dataset, exit_code=2) == 0
    dataset["optional"] = ["gold", "score"]
    assert run(dataset) == EARLY + 1
    assert ids("human_score") == [None] * EARLY + [4.0]
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "more", "question": "Why?", "answer": "So!", "score": 3}) + "\n")
    assert run(dataset) == 1
    assert ids("human_score")[EARLY:] == [4.0, 3.0]
    samples = pq.read_table(tmp_path / "out/samples.parquet").to_pylist()
    assert [line["reference"] for line in samples[EARLY:]] == ["Because.", None]


def test_a_template_may_name_an_optional_column(tmp_path: Path, run: Any, ids: Any) -> None:
    pq.write_table(table_of("1"), tmp_path / "a.parquet")
    pq.write_table(table_of("2", hint=["short"]), tmp_path / "b.parquet")
    judge = {"kind": "template", "user": "Rate {answer}{hint}", "verdict": "first_number"}
    assert run({"path": "*.parquet", "optional": "hint"}, judge=judge) == len(["1", "2"])
    assert ids("status") == ["ok", "ok"]
    assert run({"path": "*.parquet"}, judge=judge, out="strict", exit_code=1) == 1
    assert ids("error_type", out="strict") == ["bad_row", None]


def test_folder_columns_are_kept_and_grouped_by(tmp_path: Path, run: Any, ids: Any) -> None:
    for lang in ("zh", "en"):
        (tmp_path / f"data/lang={lang}").mkdir(parents=True)
        pq.write_table(table_of(f"{lang}1", f"{lang}2"), tmp_path / f"data/lang={lang}/part.parquet")
    dataset = {"path": "data", "keep": ["lang"]}
    assert run(dataset, report={"group_by": ["lang"]}) == len(["en1", "en2", "zh1", "zh2"])
    assert ids("lang") == ["en", "en", "zh", "zh"]
    assert run(dataset, report={"group_by": ["lang"]}) == 0
    summary = (tmp_path / "out/report/summary.json").read_text(encoding="utf-8")
    assert '"lang"' in summary


def test_several_paths_grow_by_one_at_the_end(tmp_path: Path, run: Any, ids: Any) -> None:
    for name in ("z", "a", "b"):
        (tmp_path / name).mkdir()
        pq.write_table(table_of(f"{name}1"), tmp_path / name / "test.parquet")
    assert run({"path": ["z", "a/*.parquet"]}) == len(["z1", "a1"])
    assert run({"path": ["z", "a/*.parquet", "b/test.parquet"]}) == 1
    assert ids() == ["z1", "a1", "b1"]


def test_rows_under_a_key_are_judged(tmp_path: Path, run: Any, ids: Any) -> None:
    document = {"version": 1, "data": table_of("x", "y").to_pylist()}
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    assert run({"path": "a.json"}, exit_code=2) == 0
    assert "set dataset.records: data" in run.stderr
    assert run({"path": "a.json", "records": "data"}) == len(["x", "y"])
    assert ids() == ["x", "y"]


def test_the_samples_of_a_run_are_the_dataset_of_the_next(tmp_path: Path, run: Any, ids: Any) -> None:
    pq.write_table(table_of("first", "second"), tmp_path / "a.parquet")
    run({"path": "a.parquet"})
    assert run({"path": "out/samples.parquet"}, out="again") == len(["first", "second"])
    assert ids(out="again") == ["first", "second"]
    assert run({"path": "out/samples.parquet", "fields": {"id": "ordinal"}}, out="mapped") == len(["0", "1"])
    assert ids(out="mapped") == ["0", "1"]


def test_an_id_of_its_own_wins_over_sample_id(tmp_path: Path, run: Any, ids: Any) -> None:
    pq.write_table(table_of("own", sample_id=["other"]), tmp_path / "a.parquet")
    run({"path": "a.parquet"})
    assert ids() == ["own"]


def test_file_names_that_are_not_utf8_are_run_and_resumed(tmp_path: Path, run: Any, ids: Any, cli: Any) -> None:
    (tmp_path / "data").mkdir()
    with open(os.fsencode(tmp_path) + b"/data/caf\xe9.jsonl", "wb") as file:  # noqa: PTH123 - a path in bytes
        file.write(b'{"id": "a", "question": "Why?", "answer": "So."}\nbroken\n')
    assert run({"path": "data"}, exit_code=1) == 1
    (message,) = [text for text in ids("error_message") if text]
    assert message.startswith(r"caf\xe9.jsonl:2") or "broken JSON" in message
    assert run({"path": "data"}, exit_code=1) == 0
    with open(os.fsencode(tmp_path) + b"/data/\xff.jsonl", "wb") as file:  # noqa: PTH123
        file.write(b'{"id": "b", "question": "Who?", "answer": "Me."}\n')
    assert run({"path": "data"}, exit_code=1) == 1
    for command in (("validate", "judge.yaml"), ("plan", "judge.yaml"), ("status", "out"), ("report", "out")):
        finished = cli(*command)
        assert finished.returncode == 0, finished.stderr


def test_a_run_directory_called_key_and_value_reads_as_any_other(tmp_path: Path, run: Any, ids: Any, cli: Any) -> None:
    pq.write_table(table_of("a", "b", "c"), tmp_path / "a.parquet")
    out = "runs/judge=a/swapped=true/status=x/score=5"
    dataset = {"path": "a.parquet"}
    assert run(dataset, report={}, out="plain") == len("abc")
    assert run(dataset, report={}, out=out) == len("abc")
    assert run(dataset, report={}, out=out) == 0
    assert ids("score", out=out) == ids("score", out="plain")
    facts = [json.loads((tmp_path / folder / "report/summary.json").read_text()) for folder in ("plain", out)]
    means = [[one["mean"]["value"] for one in fact["distributions"]["scores"]] for fact in facts]
    assert means[0] == means[1] != []
    assert cli("export", out, "all.csv").returncode == 0
    assert cli("rescore", out, "--set", "judge.scale=[1, 5]").returncode == 0
    assert cli("report", out).returncode == 0


def test_the_line_of_the_readme_reads_such_a_run_directory(tmp_path: Path, run: Any, ids: Any) -> None:
    pq.write_table(table_of("a", "b"), tmp_path / "a.parquet")
    run({"path": "a.parquet"}, out="score=5")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import duckdb\n.*?)```", readme, re.DOTALL)
    lines = code.replace("runs/answers", str(tmp_path / "score=5")).strip().split("\n")
    names: dict[str, Any] = {}
    exec("\n".join(lines[:-1]), names)
    ((status, count, mean),) = eval(lines[-1], names).fetchall()
    scores = ids("score", out="score=5")
    assert (status, count, mean) == ("ok", len(scores), sum(scores) / len(scores))
