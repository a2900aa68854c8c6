"""`validate`, `plan` and `run` on prompts that are not what they seem, and on ids that several samples have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

ROWS = [
    {"id": f"r{n}", "question": f"Why {n}?", "answer": f"So {n}.", "gold text": "g", "meta": {"lang": "zh"}}
    for n in range(4)
]
COMMANDS = ("validate judge.yaml", "plan judge.yaml", "run judge.yaml")


@pytest.fixture
def given(tmp_path: Path, plain_emulator: Any) -> Callable[..., Path]:
    """Write a dataset and a judge.yaml whose judge has this prompt; a prompt of None is PAI-Judge's."""

    def write(user: str | None, rows: list[Any] = ROWS, **more: Any) -> Path:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / "answers.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        judge = {} if user is None else {"kind": "template", "user": user, "verdict": "last_number"}
        config = {
            "dataset": {"path": "answers.jsonl", **more.pop("dataset", {})},
            "judge": {**judge, **more.pop("judge", {})},
            "service": {"base_url": plain_emulator.url},
            "output": {"directory": "out", **more.pop("output", {})},
        }
        (tmp_path / "judge.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        return tmp_path / "out"

    return write


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_no_row_has_is_an_error(cli: Any, given: Callable[..., Path], command: str) -> None:
    out = given("Rate {answer} in {meta.lagn}.")
    ended = cli(*command.split())
    assert ended.returncode == 2
    assert "no column 'meta.lagn' for `{meta.lagn}` (did you mean 'meta.lang'?)" in ended.stderr
    assert not out.exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("Rate {{ answer }} to { question }.", "the template names no field and no column, so every request would be "
         "the same; expected a name in braces, such as {answer}; `{{ answer }}` is no placeholder"),
        ("Rate it from 1 to 5.", "the template names no field and no column"),
        ("Rate {{ answer }} in {meta.lang}.", "all 4 samples make the same request, although they differ in question, "
         "answer; the template names only {meta.lang}; `{{ answer }}` is no placeholder"),
    ],
)  # fmt: skip
def test_requests_that_are_all_alike_are_refused(
    cli: Any, given: Callable[..., Path], plain_emulator: Any, command: str, user: str, message: str
) -> None:
    out, before = given(user), plain_emulator.stats()["requests"]
    ended = cli(*command.split())
    assert ended.returncode == 2
    assert f"judge `judge`: {message}" in ended.stderr
    assert not out.exists()
    assert plain_emulator.stats()["requests"] == before


@pytest.mark.parametrize("command", COMMANDS)
def test_what_looks_like_a_placeholder_is_a_warning(cli: Any, given: Callable[..., Path], command: str) -> None:
    out = given('Rate {{answer}} to { question } with {gold text}: {"score": 5}')
    ended = cli(*command.split())
    assert ended.returncode == 0
    assert "judge `judge`: `{{answer}}` is sent with braces around the value" in ended.stderr
    assert "judge `judge`: `{ question }` is no placeholder and is sent as it is" in ended.stderr
    assert "map it with dataset.fields: {gold_text: 'gold text'} and write `{gold_text}`" in ended.stderr
    assert "score" not in ended.stderr
    if command.startswith("run"):
        assert len(set(pq.read_table(out / "results")["request_hash"].to_pylist())) == 4


@pytest.mark.parametrize(
    ("user", "rows"),
    [
        ("Rate {answer}.", ROWS[:1]),
        ("Rate {answer}.", [{**ROWS[0], "id": f"same{n}"} for n in range(3)]),
        ("Rate {answer}.", [{**ROWS[0], "id": "broken"}, '{"id": "x", "answer": ', ROWS[1]]),
        ("Rate {text}.", [{"id": n, "text": "yes", "model": f"m{n}"} for n in range(3)] + [{"id": 9, "text": "no"}]),
        ("Rate {text}.", [{"id": n, "text": "yes" if n < 300 else "no", "answer": n} for n in range(301)]),
    ],
)
def test_requests_that_may_be_alike(cli: Any, given: Callable[..., Path], user: str, rows: list[Any]) -> None:
    given(user, rows)
    assert cli("validate", "judge.yaml").returncode == 0
    assert cli("plan", "judge.yaml").returncode == 0


def test_a_limit_does_not_make_requests_alike(cli: Any, given: Callable[..., Path]) -> None:
    rows = [{**row, "answer": "So." if n < 2 else "No."} for n, row in enumerate(ROWS)]
    given("Rate {answer}.", rows)
    assert cli("run", "judge.yaml", "--limit", "2").returncode == 0


def test_an_earlier_run_is_resumed_though_its_requests_are_alike(cli: Any, given: Callable[..., Path]) -> None:
    out = given("Rate {answer}.", [{**ROWS[0], "answer": "So."}])
    assert cli("run", "judge.yaml").returncode == 0
    given("Rate {answer}.", [{**ROWS[0], "answer": "So."}, {**ROWS[1], "answer": "So."}])
    ended = cli("run", "judge.yaml")
    assert ended.returncode == 0
    assert "all 2 samples make the same request, although they differ in question" in ended.stderr
    assert pq.read_table(out / "results").num_rows == 2
    assert cli("plan", "judge.yaml").returncode == 0
    assert cli("rescore", "out").returncode == 0
    assert cli("run", "judge.yaml", "--fresh").returncode == 2
    assert pq.read_table(out / "results").num_rows == 2  # not moved


def test_one_of_two_judges(cli: Any, given: Callable[..., Path], tmp_path: Path) -> None:
    given("Rate {answer}.", judge={"scale": [1, 5]})
    config = yaml.safe_load((tmp_path / "judge.yaml").read_text())
    config["judges"] = [config["judge"], {**config.pop("judge"), "name": "other", "user": "Rate { answer }."}]
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(config))
    ended = cli("validate", "judge.yaml")
    assert ended.returncode == 2
    assert "judge `other`: the template names no field" in ended.stderr


NUMBERED = [
    '{"id": 1, "question": "q1", "answer": "a1"}',
    '{"id": 2, "question": "q2", "answer": "a2"}',
    '{"id": 3, "question": "q3", "answer": "a',
    '{"id": null, "question": "q4", "answer": "a4"}',
    '{"question": "q5", "answer": "a5"}',
    '{"id": 4, "question": "q6", "answer": "a6"}',
]


def test_an_ordinal_that_is_the_id_of_another_row(cli: Any, given: Callable[..., Path]) -> None:
    out = given(None, NUMBERED, output={"tolerate": 0.5})
    validated = cli("validate", "judge.yaml")
    assert validated.returncode == 0
    assert (
        "warning: id: 2 rows have the id of an earlier row: '2' (answers.jsonl:2 and answers.jsonl:3), "
        "'4' (answers.jsonl:5 and answers.jsonl:6); the ordinal is the id of rows without one (answers.jsonl:3); "
        "a join by sample_id mixes them; `ordinal` tells them apart"
    ) in validated.stderr
    for _ in range(2):  # also by the run that finds nothing to do
        ended = cli("run", "judge.yaml")
        assert ended.returncode == 0
        assert "warning: 2 ids belong to several samples, such as 2: one has it as its ordinal" in ended.stderr
    ids = pq.read_table(out / "samples.parquet")["sample_id"].to_pylist()
    assert ids == ["1", "2", "2", "3", "4", "4"]  # as the contract has it


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        (NUMBERED[:2], None),
        ([*NUMBERED[:2], '{"id": "", "question": "q", "answer": "a"}'][1:], "id: the ids are numbers; the ordinal is "
         "the id of rows without one (answers.jsonl:2), which can be the id of another row"),
        (['{"id": "a", "question": "q", "answer": "b"}', '{"question": "q", "answer": "a"}'], None),
        (['{"id": "a", "question": "q", "answer": "b"}'] * 2, "id: a row has the id of an earlier row: 'a' (answers."
         "jsonl:1 and answers.jsonl:2); a join"),
        (['{"question": "q", "answer": "b"}'] * 2, None),
    ],
)  # fmt: skip
def test_ids_of_the_first_rows(cli: Any, given: Callable[..., Path], rows: list[str], warning: str | None) -> None:
    given(None, rows)
    validated = cli("validate", "judge.yaml")
    assert validated.returncode == 0
    assert ("warning: id: " in validated.stderr) is (warning is not None)
    assert warning is None or f"warning: {warning}" in validated.stderr


def test_ids_without_a_clash_end_without_a_word(cli: Any, given: Callable[..., Path]) -> None:
    given(None, NUMBERED[:2])
    ended = cli("run", "judge.yaml")
    assert ended.returncode == 0
    assert "several samples" not in ended.stderr


def test_a_conversation_is_judged_by_its_turns(cli: Any, given: Callable[..., Path]) -> None:
    rows = [
        {"id": n, "talk": [{"from": "human", "value": f"Ask {n}"}, {"from": "gpt", "value": f"Say {n}"}]}
        for n in range(3)
    ]
    out = given(
        "Rate {talk.-1.value} in:\n{talk}",
        rows,
        dataset={"fields": {"question": "talk.0.value"}, "keep": {"said": "talk.1.value"}},
    )
    assert (
        '"content":"Rate Say 0 in:\\nUser: Ask 0\\n\\nAssistant: Say 0"'
        in cli("validate", "judge.yaml", "--show", "1").stdout
    )
    assert cli("run", "judge.yaml").returncode == 0
    samples = pq.read_table(out / "samples.parquet").to_pylist()
    assert [(row["question"], row["said"]) for row in samples] == [(f"Ask {n}", f"Say {n}") for n in range(3)]
    assert cli("run", "judge.yaml").returncode == 0
