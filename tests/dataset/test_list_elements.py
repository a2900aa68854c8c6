"""Elements of lists as fields, labels, kept columns and names of templates, in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.config import load_config
from runner.dataset import chunks
from runner.errors import BadRow, ConfigError, DatasetError
from runner.judge import Panel
from runner.planning import check_inputs, preview_requests
from runner.types import Sample

Write = Callable[[str, bytes | str], Path]

ROWS: list[dict[str, Any]] = [
    {
        "id": f"c{n}",
        "talk": [{"from": "human", "value": f"Ask {n}"}, {"from": "gpt", "value": f"Say {n}"}],
        "scores": [n, 10 * n],
    }
    for n in range(3)
]
FIELDS = {"question": "talk.0.value", "answer": "talk.-1.value"}


def check(path: Path, *, judge: dict[str, Any] | None = None, **dataset: Any) -> Any:
    section = {"path": str(path), "fields": FIELDS, **dataset}
    config = {"dataset": section, "judge": judge or {}, "service": {"kind": "emulator"}}
    return check_inputs(load_config(config))


def samples_of(path: Path, **options: Any) -> list[Sample]:
    inputs = check(path, **options)
    return [inputs.reader.sample(raw) for chunk in chunks(inputs.files, columns=inputs.reader.columns) for raw in chunk]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def template(user: str) -> dict[str, Any]:
    return {"kind": "template", "user": user, "verdict": "first_number"}


@pytest.fixture(params=["jsonl", "json", "records", "parquet", "large lists"])
def talks(request: pytest.FixtureRequest, write: Write, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The same rows in a format, with the keys that reading it takes."""
    if request.param == "jsonl":
        return write("talks.jsonl", jsonl(ROWS)), {}
    if request.param == "json":
        return write("talks.json", json.dumps(ROWS)), {}
    if request.param == "records":
        return write("talks.json", json.dumps({"data": {"rows": ROWS}})), {"records": "data.rows"}
    table = pa.Table.from_pylist(ROWS)
    if request.param == "large lists":
        talk = pa.large_list(table.schema.field("talk").type.value_type)
        table = table.cast(pa.schema([("id", pa.string()), ("talk", talk), ("scores", pa.list_(pa.int64(), 2))]))
    pq.write_table(table, tmp_path / "talks.parquet")
    return tmp_path / "talks.parquet", {}


def test_elements_are_fields_labels_and_kept(talks: tuple[Path, dict[str, Any]]) -> None:
    path, keys = talks
    samples = samples_of(path, **keys, human_label="scores.1", keep={"first": "scores.0"})
    assert [sample.fields["question"] for sample in samples] == ["Ask 0", "Ask 1", "Ask 2"]
    assert [sample.fields["answer"] for sample in samples] == ["Say 0", "Say 1", "Say 2"]
    assert [sample.columns["human_score"] for sample in samples] == [0, 10, 20]
    is_typed = path.suffix == ".parquet"
    assert [sample.columns["first"] for sample in samples] == ([0, 1, 2] if is_typed else ["0", "1", "2"])


def test_templates_name_elements(talks: tuple[Path, dict[str, Any]]) -> None:
    path, keys = talks
    judge = template("{talk.-1.value} of {question} {talk.5} is {scores.1}")
    with pytest.raises(DatasetError, match=r"no column 'talk\.5' for `\{talk\.5\}` \(did you mean 'talk\.-?[01]'\?\)"):
        check(path, judge=judge, **keys)
    judge = template("{talk.-1.value} of {question} is {scores.1}")
    bodies = preview_requests(check(path, judge=judge, **keys), 2).bodies
    assert "Say 1 of Ask 1 is 10" in bodies[1]


def test_a_name_below_a_mapped_field(talks: tuple[Path, dict[str, Any]]) -> None:
    path, keys = talks
    fields = {"fields": {"conversation": "talk"}, **keys}
    assert "Say 0" in preview_requests(check(path, judge=template("{conversation.1.value}"), **fields), 1).bodies[0]
    with pytest.raises(
        DatasetError, match=r"no column 'talk\.1\.valeu' for `\{conversation\.1\.valeu\}` \(did you mean"
    ):
        check(path, judge=template("{conversation.1.valeu}"), **fields)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("talk.0.valeu", "talk.0.value"),
        ("talk.value", "talk.0.value"),
        ("talks.0.value", "talk.0.value"),
        ("talk.7.value", "talk.0.value"),
        ("talk.-7.value", "talk.-1.value"),
    ],
)
def test_a_path_that_no_row_has_is_an_error(talks: tuple[Path, dict[str, Any]], wrong: str, right: str) -> None:
    path, keys = talks
    with pytest.raises(DatasetError) as caught:
        check(path, **keys, fields={**FIELDS, "reference": wrong})
    assert f"no column {wrong!r} for reference (did you mean {right!r}?)" in str(caught.value)


def test_a_list_that_is_too_short_makes_a_bad_row(write: Write) -> None:
    rows = [*ROWS, {"id": "short", "talk": [], "scores": [1]}, {"id": "none", "talk": None, "scores": None}]
    path = write("a.jsonl", jsonl(rows))
    *_, short, none = samples_of(path, keep={"second": "scores.1"})
    assert short.problem is not None
    assert short.problem.startswith("field `question`: there is no `talk.0`: the list has 0 elements; if rows may")
    assert (short.columns["second"], short.id) == (None, "short")
    assert none.problem is None  # a missing list is a missing column, as below an object
    assert "question" not in none.fields


def test_an_optional_element_is_null_where_it_is_missing(write: Write) -> None:
    path = write("a.jsonl", jsonl([{"id": "1", "talk": ROWS[0]["talk"], "refs": ["r"]}, {**ROWS[1], "refs": []}]))
    fields = {"fields": {**FIELDS, "reference": "refs.0"}}
    assert samples_of(path, **fields)[1].problem is not None
    first, second = samples_of(path, **fields, optional=["refs.0"])
    assert (first.fields["reference"], second.fields["reference"], second.problem) == ("r", None, None)


def test_an_optional_name_of_a_template_is_empty_where_it_is_missing(write: Write) -> None:
    path = write("a.jsonl", jsonl([{**ROWS[0], "refs": ["r"]}, {**ROWS[1], "refs": []}]))
    judge = template("{answer} [{refs.0}]")
    preview = preview_requests(check(path, judge=judge), 2)
    assert len(preview.bodies) == 1
    (line,) = [line for line in preview.warnings if "failed row" in line]
    assert "`{refs.0}`: there is no `refs.0`: the list has 0 elements; if rows may lack it" in line
    preview = preview_requests(check(path, judge=judge, optional="refs.0"), 2)
    assert ["Say 0 [r]" in preview.bodies[0], "Say 1 []" in preview.bodies[1]] == [True, True]


def test_one_judge_can_lack_what_another_has(write: Write) -> None:
    path = write("a.jsonl", jsonl([{**ROWS[0], "refs": ["r"]}, {**ROWS[1], "refs": []}]))
    judges = [
        {**template(user), "name": name, "scale": [0, 9]}
        for name, user in (("a", "{answer}{refs.0}"), ("b", "{answer}"))
    ]
    section = {"path": str(path), "fields": FIELDS}
    inputs = check_inputs(load_config({"dataset": section, "judges": judges, "service": {"kind": "emulator"}}))
    raw = next(chunks(inputs.files))[1]
    assert b"Say 1" in inputs.panel.request(inputs.reader.sample(raw), 1).body
    with pytest.raises(BadRow, match="the list has 0 elements"):
        inputs.panel.request(inputs.reader.sample(raw), 0)


def test_folder_columns_and_elements(tmp_path: Path) -> None:
    for lang, row in (("zh", ROWS[0]), ("en", ROWS[1])):
        folder = tmp_path / f"lang={lang}"
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist([row]), folder / "part.parquet")
    judge = template("{lang}: {talk.0.value}")
    bodies = preview_requests(check(tmp_path, judge=judge, keep=["lang"]), 2).bodies
    assert ["en: Ask 1" in bodies[0], "zh: Ask 0" in bodies[1]] == [True, True]


def test_a_parquet_file_may_lack_an_optional_list(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"id": "1", "answer": "a", "question": "q"}]), tmp_path / "a.parquet")
    later = {"id": "2", "answer": "b", "question": "q", "ages": [7, 8]}
    pq.write_table(pa.Table.from_pylist([later]), tmp_path / "b.parquet")
    section = {"fields": {}, "keep": {"age": "ages.1"}}
    with pytest.raises(DatasetError, match=r"no column 'ages\.1' for keep: age"):
        check(tmp_path, **section)
    for optional in ("ages", "ages.1"):
        inputs = check(tmp_path, **section, optional=optional)
        assert inputs.reader.result_fields()[-1] == pa.field("age", pa.int64())
        assert [sample.columns["age"] for sample in samples_of(tmp_path, **section, optional=optional)] == [None, 8]


def test_rows_under_an_element_of_a_list(write: Write) -> None:
    path = write("a.json", json.dumps([{"split": "test", "rows": ROWS}, {"split": "train", "rows": []}]))
    assert len(samples_of(path, records="0.rows")) == 3
    with pytest.raises(DatasetError, match=r"dataset\.records: no key '7\.rows'"):
        check(path, records="7.rows")


def test_a_cell_of_csv_is_a_text(write: Write) -> None:
    path = write("a.csv", 'id,question,answer,talk\n1,q,a,"[{""value"": 3}]"\n')
    with pytest.raises(DatasetError, match=r"no column 'talk\.0\.value' for question.*the cells of 'talk' are texts"):
        check(path)
    assert samples_of(write("b.csv", "id,question,talk.0.value\n1,q,literal\n"), fields={"answer": "talk.0.value"})[
        0
    ].fields == {"id": "1", "question": "q", "answer": "literal"}


def test_a_column_with_dots_in_its_name(write: Write) -> None:
    path = write("a.jsonl", jsonl([{"id": "1", "question": "q", "doc.turns": ["x", "y"]}]))
    (sample,) = samples_of(path, fields={"answer": "doc.turns.-1"})
    assert sample.fields["answer"] == "y"
    table = pa.table({"id": ["1"], "question": ["q"], "doc.turns": [["x", "y"]]})
    pq.write_table(table, path.parent / "a.parquet")
    (sample,) = samples_of(path.parent / "a.parquet", fields={"answer": "doc.turns.-1"})
    assert sample.fields["answer"] == "y"


def test_a_path_below_a_constant(write: Write) -> None:
    path = write("a.jsonl", jsonl([{"id": "1", "question": "q", "answer": "a"}]))
    section = {"fields": {"scale": {"value": {"top": [9]}}}}
    assert (
        "a of 9" in preview_requests(check(path, judge=template("{answer} of {scale.top.0}"), **section), 1).bodies[0]
    )
    with pytest.raises(ConfigError, match=r"`\{scale\.tpo\.0\}`: the constant dataset\.fields\.scale has no `tpo\.0`"):
        check(path, judge=template("{answer} of {scale.tpo.0}"), **section)


def test_an_id_that_no_row_has_is_unknown(write: Write) -> None:
    path = write("a.jsonl", jsonl([{"question": "q", "answer": "a"}]))
    with pytest.raises(ConfigError, match=r"`\{id\}` is neither a field nor a column"):
        check(path, fields={}, judge=template("{id}: {answer}"))


def test_the_panel_reads_positions_as_names() -> None:
    config = load_config({"dataset": {"path": "a"}, "judge": template("{a.0} {a.-1.b} {a.01x} {a.} {a.--1}")})
    assert Panel(config.judges).required_fields() == {"judge": ("a.0", "a.-1.b")}
