"""Variables, anchors and `--set`: the values they give, and the document that is stored."""

from __future__ import annotations

import pytest

from runner.config import load_config, masked

HEAD = "dataset: {path: a.jsonl}\n"
JUDGE = "judge: {}\n"


@pytest.mark.parametrize(
    ("written", "environ", "expected"),
    [
        ('"${N}"', {"N": "7"}, 7),
        ("${N}", {"N": "7"}, 7),
        ("${N}", {"N": "null"}, None),
        ("${N}", {"N": ""}, None),
        ("${N:-9}", {}, 9),
        ("${N:-9}", {"N": ""}, 9),
        ("${N:-9}", {"N": "8"}, 8),
        ("${N:-}", {}, None),
        ("${N}", {"N": "[1, {a: b}]"}, [1, {"a": "b"}]),
        ("${N}", {"N": "'7'"}, "7"),
        ("${N}", {"N": "a #b: c"}, "a #b: c"),
        ("${N}", {"N": "a: b"}, "a: b"),
        ("${N}", {"N": "*x"}, "*x"),
        ("${N}", {"N": "${M}"}, "${M}"),
        ("1${N}", {"N": "2"}, "12"),
        ("a-${N}-${M:-m}", {"N": "n"}, "a-n-m"),
        ("$${N}", {"N": "n"}, "$n"),
        ("$N ${ {N", {"N": "n"}, "$N ${ {N"),
    ],
)
def test_variables(load, written, environ, expected):
    text = HEAD + f"judge:\n  parameters:\n    value: {written}\n"
    assert load(text, environ=environ).judges[0].parameters == {"value": expected}


def test_a_malformed_variable_is_an_error(load_error):
    message = load_error(HEAD + "judge:\n  parameters:\n    value: a ${N b}\n", environ={"N": "n"})
    assert message.startswith(
        "judge.yaml:4: judge.parameters.value: expected ${NAME} or ${NAME:-default}, found another"
    )


def test_variables_in_prompts_are_not_expanded(load):
    config = load(
        HEAD + "judges:\n"
        "  - {name: '${J}', kind: template, system: '${X}', user: '${Y} {id}',\n"
        "     verdict: {pattern: '${?}', kind: label}}\n"
        "x-unused: '${NOWHERE}'\n",
        environ={"J": "j1"},
    )
    judge = config.judges[0]
    assert (judge.name, judge.system, judge.user) == ("j1", "${X}", "${Y} {id}")
    assert judge.verdict.pattern == "${?}"


def test_a_missing_variable_is_named_with_its_location(load_error):
    message = load_error(HEAD + JUDGE + "service:\n  limits:\n    rpm: ${RPM}\n  base_url: https://${HOST}/v1\n")
    assert message.splitlines() == [
        "judge.yaml:5: service.limits.rpm: the environment variable RPM is not set; set it or write ${RPM:-default}",
        "judge.yaml:6: service.base_url: the environment variable HOST is not set; set it or write ${HOST:-default}",
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("online: {retry: {attempts: '${V}'}}", "hidden-7"),
        ("router: {mode: '${V}'}", "hidden-7"),
        ("router: {mode: '${V}x'}", "hidden-7"),
        ("service: {limits: '${V}'}", "{hidden-7: 1}"),
        ("service: {batch: '${V}'}", "hidden-7"),
        ("aggregate: '${V}'", "{score: hidden-7}"),
        ("breaker: {share: '${V}'}", "77770001"),
    ],
)
def test_the_value_of_a_variable_is_never_shown(load_error, line, value):
    message = load_error(HEAD + JUDGE + line + "\n", environ={"V": value})
    assert "the value of ${V}" in message
    assert "judge.yaml:3: " in message
    assert "hidden-7" not in message
    assert "7777" not in message


def test_anchors_and_merge_keys(load):
    config = load(
        "x-base: &base {model: pai-judge-plus, repeats: 3, parameters: &p {temperature: 0}}\n"
        "x-more: &more {repeats: 4, reask: 2}\n" + HEAD + "judges:\n"
        "  - {<<: *base, name: one, repeats: 1}\n"
        "  - {<<: [*base, *more], name: two}\n"
        "  - {name: three, parameters: *p}\n"
    )
    one, two, three = config.judges
    assert (one.model, one.repeats, one.parameters) == ("pai-judge-plus", 1, {"temperature": 0})
    assert (two.repeats, two.reask) == (3, 2)
    assert (three.model, three.parameters) == ("pai-judge", {"temperature": 0})


def test_without_overrides_the_document_is_verbatim(load):
    text = "# 注释\n" + HEAD + "judge: {model:   '${M}'}  # why\n"
    assert load(text, environ={"M": "x"}).document == text


def test_overrides_are_read_as_yaml_and_merged(load, tmp_path):
    text = (
        "# gone\nx-b: &b {repeats: 2, parameters: {top_p: 1.0}}\ntags: {team: 评测}\n"
        "judges:\n- {<<: *b, name: one, model: '${M}'}\n- {<<: *b, name: two}\n"
        "service:\n  base_url: ${URL}\ndataset: {path: a.jsonl}\n"
    )
    environ = {"M": "m1", "URL": "https://host/v1", "T": "0.5"}
    overrides = (
        "judges.0.parameters.temperature=${T}",
        "judges.1.repeats=5",
        "service.limits={rpm: 10, concurrency: 3}",
        "service.token_env=",
        "online.retry.attempts=2",
        "name=007",
    )
    config = load(text, *overrides, environ=environ)
    one, two = config.judges
    assert (one.parameters, one.repeats) == ({"top_p": 1.0, "temperature": 0.5}, 2)
    assert (two.parameters, two.repeats) == ({"top_p": 1.0}, 5)
    assert (config.services[0].limits.rpm, config.services[0].token_env) == (10, None)
    assert (config.online.retry.attempts, config.name) == (2, "007")

    kept = config.document
    assert "${M}" in kept
    assert "${URL}" in kept
    assert "${T}" in kept
    assert "评测" in kept
    assert "m1" not in kept
    assert kept.index("judges:") < kept.index("service:") < kept.index("dataset:") < kept.index("online:")
    again = tmp_path / "config.yaml"
    again.write_text(kept, encoding="utf-8")
    assert masked(load_config(again, environ=environ)) == masked(config)


def test_later_overrides_win(load):
    assert load(HEAD + JUDGE, "judge.model=a", "judge.model=b").judges[0].model == "b"


def test_an_override_can_fill_an_empty_section(load):
    config = load(HEAD + "judge:\nservice:\n", "judge.model=plus", "service.limits.rpm=3")
    assert (config.judges[0].model, config.services[0].limits.rpm) == ("plus", 3)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("judge.modle=x", "--set judge.modle=x: unknown key; did you mean 'model'?"),
        ("judge.repeats=two", "--set judge.repeats=two: expected a whole number of at least 1, found 'two'"),
        ("judge={modle: x}", "--set judge={modle: x}: judge.modle: unknown key; did you mean 'model'?"),
        ("judge.parameters.n=2", "--set judge.parameters.n=2: cannot be set here: use judge.repeats"),
        ("judge", "--set: expected KEY=VALUE with a dotted key, such as judge.model=pai-judge-plus, found 'judge'"),
        ("judge..model=x", "--set: expected KEY=VALUE"),
        ("=x", "--set: expected KEY=VALUE"),
        ("name=a: b: c", "--set name=a: b: c: the value is not valid YAML: mapping values are not allowed"),
        ("dataset.path.x=1", "--set dataset.path.x=1: cannot set 'x' inside a single value"),
        ("tags.2.x=1", "--set tags.2.x=1: expected a position from 0 to 0 in the list, found '2'"),
        ("judge.model=${NOPE}", "--set judge.model=${NOPE}: the environment variable NOPE is not set"),
        ("service.token_env=sk-123", "--set service.token_env=***: expected the name of an environment variable"),
        ("service.token=abc", "--set service.token=***: tokens do not belong in this file"),
        ("judge.swap=sk-live-0123456789", "--set judge.swap=***: expected true or false"),
    ],
)
def test_invalid_overrides(load_error, override, expected):
    message = load_error(HEAD + "judge: {}\ntags: [a]\n" if override.startswith("tags") else HEAD + JUDGE, override)
    assert expected in message
    assert "sk-" not in message
    assert "abc" not in message


def test_problems_of_overrides_come_last(load_error):
    lines = load_error(HEAD + "judge: {swap: 5}\n", "judge.repeats=0").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["judge.yaml:2", "--set judge.repeats=0"]
