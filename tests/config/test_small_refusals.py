"""YAML that reads well is accepted, and what YAML cannot read has a message that says what to do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from runner.config import RunConfig
from runner.emulator import EmulatorOptions

Load = Callable[..., RunConfig]
LoadError = Callable[..., str]

HEAD = "dataset: {path: a.jsonl}\njudge: {}\n"


def test_whole_numbers_have_several_spellings(load: Load) -> None:
    config = load(
        "dataset: {path: a.jsonl}\njudge: {repeats: 2.0, parameters: {max_tokens: 1e3, temperature: 1.0}}\n"
        "service: {limits: {rpm: 600.0, tpm: 1e6, concurrency: 1.6e1}}\nbudget: {requests: 1e4}\n"
        "prices: {per: 1e6, models: {pai-judge: {input: 1, output: 1}}}\n",
        "output.rows_per_part=2e4",
    )
    (judge,), (service,) = config.judges, config.services
    numbers = [judge.repeats, service.limits.rpm, service.limits.tpm, service.limits.concurrency]
    numbers += [config.budget.requests, config.output.rows_per_part, judge.parameters["max_tokens"]]
    assert numbers == [2, 600, 1_000_000, 16, 10_000, 20_000, 1000]
    assert {type(number) for number in numbers} == {int}
    assert str(judge.parameters["temperature"]) == "1.0"


def test_tokens_per_minute_in_two_parts(load: Load) -> None:
    tpm = load(HEAD + "service: {limits: {tpm: {input: 2e5, output: 5e4}}}\n").services[0].limits.tpm
    assert tpm is not None
    assert tpm.model_dump() == {"input": 200_000, "output": 50_000}  # type: ignore[union-attr]


@pytest.mark.parametrize("number", ["1.5", "1e-3", ".inf", ".nan", "true", "'600'", "0.0", "-1e3"])
def test_other_numbers_are_no_whole_ones(load_error: LoadError, number: str) -> None:
    message = load_error(HEAD + f"service: {{limits: {{rpm: {number}}}}}\n")
    assert "judge.yaml:3: service.limits.rpm: expected a whole number of at least 1, found" in message


MERGES = "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
BOMBS = {
    "lists": ("dataset: " + "[" * 100_000, "nested deeper than 100"),
    "mappings": ("a: " * 1 + "{a: " * 50_000, "nested deeper than 100"),
    "blocks": ("".join(f"{' ' * n}a:\n" for n in range(200)), "nested deeper than 100"),
    "merges": ("a0: &a0 {k: 1}\n" + MERGES + HEAD, "unknown key"),
    "number": ("dataset: {path: a}\njudge: {repeats: " + "9" * 1_000_000 + "}", "1,000,000 digits is too long"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_at_once(load_error: LoadError, kind: str) -> None:
    text, expected = BOMBS[kind]
    start = time.process_time()
    assert expected in load_error(text)
    assert time.process_time() - start < 5


def test_a_value_of_the_command_line_is_no_bomb_either(load_error: LoadError) -> None:
    assert "nested deeper than 100" in load_error(HEAD, "judge.parameters=" + "[" * 50_000)


@pytest.mark.parametrize(
    "text",
    [
        "dataset: {path: a}\njudge: {kind: template, user: 'file:///dev/zero', verdict: first_number}\n",
        "dataset: {path: a}\njudge: {kind: template, user: x, system: 'file:///dev/zero', verdict: first_number}\n",
    ],
)
def test_a_file_without_an_end_is_refused(load_error: LoadError, text: str) -> None:
    assert "cannot read /dev/zero: File too large" in load_error(text)


@pytest.mark.parametrize("number", ["32768", "33000", "99999999999"])
def test_more_repeats_than_the_column_holds(load: Load, load_error: LoadError, number: str) -> None:
    assert load("dataset: {path: a.jsonl}\njudge: {repeats: 32767}\n").judges[0].repeats == 32_767
    message = load_error(f"dataset: {{path: a.jsonl}}\njudge: {{repeats: {number}}}\n")
    assert "judge.repeats: expected a number up to 32,767" in message


def test_the_emulator_takes_them_too() -> None:
    options = EmulatorOptions.from_mapping({"rpm": 6e2, "latency": {"median": 1.0}, "batch": {"fail": 2.0}})
    assert (options.rpm, options.latency.median, options.batch.fail) == (600, 1.0, 2)


@pytest.mark.parametrize(
    ("text", "place", "advice"),
    [
        (HEAD + "output:\n\tdirectory: out\n", "4:1", "the line begins with a tab; YAML is indented with spaces only"),
        (HEAD + "output:\n  texts: true\n \tdirectory: out\n", "5:2", "the line begins with a tab"),
        ("dataset: {path: *.jsonl}\njudge: {}\n", "1:18", "a value that begins with * needs quotes, such as '*.jsonl'"),
        ("dataset:\n  path: **/*.jsonl\njudge: {}\n", "2:10", "a value that begins with * needs quotes"),
        ("dataset: {path: *all}\njudge: {}\n", "1:17", "a value that begins with * needs quotes"),
        ("dataset: {path: &}\njudge: {}\n", "1:18", "a value that begins with & needs quotes"),
        ("dataset: {path: a}\njudge: {user: @x}\n", "2:15", "a value that begins with @ needs quotes"),
        ("dataset: {path: a}\njudge:\n  user: `x`\n", "3:9", "a value that begins with ` needs quotes"),
        (
            "dataset: {path: a}\njudge:\n  user: Rate it: {answer}\n",
            "3:16",
            "a text that contains ': ' or begins with {",
        ),
        ("dataset: {path: a}\njudge:\n  user: {answer}: good?\n", "3:17", "a text that contains ': ' or begins with {"),
    ],
)
def test_what_yaml_cannot_read(load_error: LoadError, text: str, place: str, advice: str) -> None:
    message = load_error(text)
    assert message.startswith(f"judge.yaml:{place}: not valid YAML: ")
    assert advice in message


@pytest.mark.parametrize(
    ("keep", "problem"),
    [
        ("[Score]", "'Score' differs by case only from 'score', a column of the results; keep it under another name: "
                    "{my_Score: Score}"),
        ("[STATUS]", "'STATUS' differs by case only from 'status', a column of the results"),
        ("{Sample_ID: id}", "'Sample_ID' differs by case only from 'sample_id', a column of the results"),
        ("[Human_Winner]", "'Human_Winner' differs by case only from 'human_winner'"),
        ("[meta.Model]", "'Model' differs by case only from 'model', a column of the results; keep it under another "
                         "name: {my_Model: meta.Model}"),
        ("[Votes]", "'Votes' differs by case only from 'votes', a column of samples.parquet"),
        ("[Question]", "'Question' differs by case only from 'question', a column of samples.parquet"),
        ("[lang, Lang]", "two columns are kept as 'lang' and 'Lang', which differ by case only; keep it under another "
                         "name: {my_Lang: Lang}"),
        ("{Straße: a, STRASSE: b}", "two columns are kept as 'Straße' and 'STRASSE', which differ by case only"),
        ("[a.x, b.x]", "two columns are kept as 'x'; keep it under another name: {my_x: b.x}"),
        ("[score]", "'score' is a column of the results"),
    ],
)  # fmt: skip
def test_kept_names_that_differ_by_case_only(load_error: LoadError, keep: str, problem: str) -> None:
    assert problem in load_error(f"dataset: {{path: a.jsonl, keep: {keep}}}\njudge: {{}}\n")


def test_the_advice_is_accepted(load: Load) -> None:
    keep = "{my_Score: Score, my_Question: Question, question: question, Lang: Lang}"
    kept = load(f"dataset: {{path: a.jsonl, keep: {keep}}}\njudge: {{}}\n").dataset.keep
    assert [item.name for item in kept] == ["my_Score", "my_Question", "question", "Lang"]
