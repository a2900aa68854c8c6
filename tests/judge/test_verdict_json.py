"""`format: json`: objects in judges' texts, the configured keys, and texts without a verdict."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_readers import reader

from runner.errors import ConfigError
from runner.judge.verdict.loose_json import Ambiguous, dig, objects
from runner.types import Dimension, Verdict

MAP = {"A": "1", "B": "2", "C": "tie"}


def first(text: str) -> Any:
    return next(objects(text), None)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": 1}', {"a": 1}),
        (
            'So: ```json\n{\n "a": [1, -2.5, 1e2],\n "b": {"c": null}\n}\n``` Done.',
            {"a": [1, -2.5, 100], "b": {"c": None}},
        ),
        ("{'a': True, 'b': (1, None), \"c\": 'it'}", {"a": True, "b": [1, None], "c": "it"}),
        ('{"a": "it\'s", "b": \'a "word"\'}', {"a": "it's", "b": 'a "word"'}),
        (
            '{"a": "two\nlines", "b": "\\n\\u597d\\ud83d\\ude00 \\\\ \\( \\"x\\""}',
            {"a": "two\nlines", "b": '\n好😀 \\ \\( "x"'},
        ),
        ('{"a": 1,}', {"a": 1}),
        ("{a: 1, 2: 3}", {"a": 1, "2": 3}),
        ("{“a”：１，‘b’: “x”}", {"a": 1, "b": "x"}),
        ('a set {1, 2}, f"{name}", \\frac{a}{b}, {"a": x}, then {"b": 2}', {"b": 2}),
        ('{"a": {"b": {"c": 1}}}', {"a": {"b": {"c": 1}}}),
        ('{"a": "half \\ud83d"}', {"a": "half \ufffd"}),
        ('[{"a": 1}]', {"a": 1}),
        ('{"a": 1', None),
        ('{"a": 1; "b": 2}', None),
        ('{"a": "b}', None),
        ('{"a" 1}', None),
        ('{"a": 1e}', None),
        ("no object", None),
        ('{"a": __import__("os")}', None),
        ('{"a":' * 30 + "1" + "}" * 30, None),
        ('{"a": {"b": 1}, "c": "cut o', None),
        ('{"c": "he said "hi", there", "a": {"b": 1}, "d": 2} {"b": 3}', {"b": 3}),
        ("{'c': 'it's {\"b\": 1}', 'b': 2}", None),
    ],
)
def test_objects(text: str, data: Any) -> None:
    assert first(text) == data


def test_duplicate_keys() -> None:
    found = first('{"a": 1, "a": 1, "b": 1, "b": 2}')
    assert found["a"] == 1
    assert isinstance(found["b"], Ambiguous)


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.recursive(
            st.none() | st.booleans() | st.floats(-1e6, 1e6) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
            max_leaves=8,
        ),
        min_size=1,
    ),
    st.booleans(),
)
def test_every_json_object_is_read(data: dict[str, Any], escaped: bool) -> None:
    text = json.dumps(data, ensure_ascii=escaped)
    if "\\" not in next(iter(data)) and '"' not in next(iter(data)) and json.dumps(next(iter(data)))[1:-1].isalnum():
        assert first(f"Here: {text}.") == data


def test_dig() -> None:
    data = {"a": {"b": [{"c": 1}]}, "x.y": 2, "Score": 3, "t": 4, "T": 5}
    assert dig(data, "a.b.0.c") == 1
    assert dig(data, "x.y") == 2
    assert dig(data, "score") == 3
    assert dig(data, "t") == 4
    assert dig({"t ": 4, "T": 5}, "t.x") is None
    assert [dig(data, path) for path in ("a.c", "a.b.1", "a.b.x", "z", "score.x")] == [None] * 5


def read(text: str, scale: tuple[float, float] | None = None, **keys: Any) -> Verdict:
    return reader(scale, format="json", **keys)(text)


@pytest.mark.parametrize(
    ("value", "score"),
    [
        ("4", 4),
        ("4.5", 4.5),
        ('"4"', 4),
        ('"4/5"', 4),
        ('"4分"', 4),
        ('"[[4]]"', 4),
        ('" ４ "', 4),
        ('"3 out of 5"', 3),
    ],
)
def test_score(value: str, score: float) -> None:
    assert read(f'{{"result": {{"score": {value}}}}}', (1, 5), score="result.score").score == score


@pytest.mark.parametrize(
    ("word", "winner"),
    [
        *(("1", "1"), ('"2"', "2"), ("２", "2"), ('"A"', "1"), ('"b"', "2"), ('"[[A]]"', "1"), ('"Response 1"', "1")),
        *(
            ('"model_b"', "2"),
            ('"Output (a)"', "1"),
            ('"Assistant A is better"', "1"),
            ('"助手2"', "2"),
            ('"回答１"', "1"),
        ),
        *(('"tie"', "tie"), ('"Draw"', "tie"), ('"平局"', "tie"), ('"质量相当"', "tie"), ('"It\'s a tie."', "tie")),
    ],
)
def test_winner_without_a_map(word: str, winner: str) -> None:
    assert read(f'{{"verdict": {word}}}', winner="verdict").winner == winner


@pytest.mark.parametrize("word", ['"C"', "3", "true", '"both"', '"A or B"', '"Response 12"', '"A++"', '""', "[]"])
def test_no_winner_without_a_map(word: str) -> None:
    verdict = read(f'{{"verdict": {word}}}', winner="verdict")
    assert (verdict.winner, verdict.problem, verdict.rule) == (None, "no_verdict", "json.keys")


def test_winner_with_a_map() -> None:
    for word, winner in (('"C"', "tie"), ('"b"', "2"), ("1", "1"), ('"Tie"', "tie"), ('"Response 1"', None)):
        assert read(f'{{"verdict": {word}}}', winner="verdict", map=MAP).winner == winner
    assert read('{"verdict": 1}', winner="verdict", map={"1": "2", "2": "1"}).winner == "2"


def test_all_configurable_keys() -> None:
    text = """Thus: {'verdict': 'B', 'overall': {'A': 4, 'B': 5}, 'scores': {'depth': {'A': 4, 'B': 9}, 'style': [3, 2],
    'tone': 2, 'wit': {'score': '1/5', 'why': 'dull'}, 'x': 'none'}, 'reason': ' B is\ndeeper '}"""
    keys = {"score": "overall", "winner": "verdict", "dimensions": "scores", "explanation": "reason"}
    verdict = read(text, (1, 5), map=MAP, **keys)
    assert (verdict.winner, verdict.score, verdict.score1, verdict.score2) == ("2", None, 4, 5)
    assert (verdict.contradiction, verdict.explanation) == (False, "B is\ndeeper")
    assert [(d.name, d.answer, d.score) for d in verdict.dimensions] == [
        *(("depth", 1, 4), ("style", 1, 3), ("style", 2, 2), ("tone", None, 2), ("wit", None, 1)),
    ]
    listed = read('{"s": 3, "parts": [{"name": "depth", "score": 4}, {"x": 1}, 5]}', score="s", dimensions="parts")
    assert listed.dimensions == (Dimension("depth", None, 4),)


def test_contradiction() -> None:
    for scores, expected in (("[4, 5]", True), ("[5, 4]", False), ("[5, 5]", False), ("5", None)):
        verdict = read(f'{{"w": "A", "s": {scores}}}', winner="w", score="s")
        assert (verdict.winner, verdict.contradiction) == ("1", expected)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no object", "no_verdict"),
        ('{"points": 4}', "no_verdict"),
        ('{"score": null}', "no_verdict"),
        ('{"score": "good"}', "no_verdict"),
        ('{"score": true}', "no_verdict"),
        ('{"score": [4, 5]}', "no_verdict"),
        ('{"score": "4-5"}', "no_verdict"),
        ('{"inner": {"score": 4}}', "no_verdict"),
        ('{"score": 6}', "out_of_scale"),
        ('{"score": "4/10"}', "out_of_scale"),
        ('{"score": 1e999}', "out_of_scale"),
        ('{"score": 4, "score": 3}', "conflict"),
        ('{"score": 4} {"score": 3}', "conflict"),
        ('{"score": 4} {"score": 7}', "conflict"),
    ],
)
def test_no_score(text: str, problem: str) -> None:
    verdict = read(text, (1, 5), score="score")
    assert (verdict.score, verdict.problem) == (None, problem)


def test_several_objects() -> None:
    assert read('{"score": 4} and so {"score": 4.0}', score="score").score == 4
    assert read('{"score": "<1 to 5>"} becomes {"score": 4}', score="score").score == 4
    assert read('{"style": 3} {"score": 4}', score="score").score == 4


def test_both_keys_are_required() -> None:
    assert read('{"s": 4}', score="s", winner="w").problem == "no_verdict"
    assert read('{"s": 4, "w": "none"}', score="s", winner="w").score is None


def test_json_format_without_a_key_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="needs the key"):
        reader(format="json")
