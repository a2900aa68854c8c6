"""Request bodies: the examples of the service's documentation, and rows that cannot be sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.config import JudgeConfig, VerdictConfig
from runner.errors import BadRow, ConfigError
from runner.judge import Panel, reask_body
from runner.types import JudgeResponse, Sample

TEMPLATE = VerdictConfig(format="mt_bench_single")


def sample(record: dict[str, Any] | None = None, **fields: Any) -> Sample:
    return Sample(7, "s7", fields, fields if record is None else record, {}, "data.jsonl:8")


def body(judge: JudgeConfig, row: Sample, variant: int = 0) -> Any:
    return json.loads(Panel([judge]).request(row, variant).body)


def built_in_texts(judge: JudgeConfig, row: Sample, variant: int = 0) -> Any:
    """Return the texts in the body of a built-in kind."""
    return body(judge, row, variant)["messages"][0]["content"][0]["json"]


def test_single_body_is_that_of_the_documentation() -> None:
    judge = JudgeConfig(model="pai-judge-plus", parameters={"temperature": 0.1, "max_tokens": 512})
    assert body(judge, sample(question="1+1?", answer="2")) == {
        "model": "pai-judge-plus",
        "messages": [
            {
                "role": "user",
                "content": [{"mode": "single", "type": "json", "json": {"question": "1+1?", "answer": "2"}}],
            }
        ],
        "temperature": 0.1,
        "max_tokens": 512,
    }


def test_body_is_compact_utf8() -> None:
    request = Panel([JudgeConfig()]).request(sample(question="对联", answer='"好"\n'), 0)
    assert (
        request.body
        == (
            '{"model":"pai-judge","messages":[{"role":"user","content":[{"mode":"single","type":"json",'
            '"json":{"question":"对联","answer":"\\"好\\"\\n"}}]}]}'
        ).encode()
    )
    assert len(request.request_hash) == 32


def test_pairwise_body_with_reference_and_options() -> None:
    judge = JudgeConfig(kind="pai_pairwise", pai={"scene": "about {topic}", "max_score": "10", "steps": "{as it is"})
    row = sample({"topic": "math"}, question="q", answer1="a", answer2="b", reference="r")
    content = body(judge, row)["messages"][0]["content"][0]
    assert content["mode"] == "pairwise"
    assert content["json"] == {
        "question": "q", "answer1": "a", "answer2": "b", "ref_answer": "r",
        "scene": "about math", "max_score": "10", "steps": "{as it is",
    }  # fmt: skip


def test_null_reference_is_not_sent() -> None:
    assert "ref_answer" not in built_in_texts(JudgeConfig(), sample(question="q", answer="a", reference=None))


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("", ""),
        (3, "3"),
        (2.5, "2.5"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}], "User: hi\n\nAssistant: yo"),
        ([{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "User: hi"),
    ],
)
def test_values_that_a_built_in_field_accepts(value: Any, sent: str) -> None:
    assert built_in_texts(JudgeConfig(), sample(question="q", answer=value))["answer"] == sent


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "null"),
        (float("nan"), "null"),
        (True, "a boolean"),
        ({"a": 1}, "an object"),
        (["a"], "a list"),
        ([], "an empty list"),
    ],
)
def test_values_that_a_built_in_field_rejects(value: Any, found: str) -> None:
    with pytest.raises(BadRow, match=f"`answer` is {found}; expected a text") as caught:
        body(JudgeConfig(), sample(question="q", answer=value))
    assert caught.value.error_type == "bad_row"


def test_missing_column_of_a_built_in_field() -> None:
    with pytest.raises(BadRow, match="there is no column for field `answer`"):
        body(JudgeConfig(), sample(question="q"))


def test_missing_column_of_a_template() -> None:
    judge = JudgeConfig(kind="template", user="{question} {hint}", verdict=TEMPLATE)
    with pytest.raises(BadRow, match="there is no column `hint`"):
        body(judge, sample(question="q"))


def test_broken_row_and_lone_surrogate() -> None:
    panel = Panel([JudgeConfig()])
    with pytest.raises(BadRow, match="not JSON"):
        panel.request(Sample(0, "0", {}, {}, {}, "f:1", problem="f:1: not JSON"), 0)
    with pytest.raises(BadRow, match=r"U\+D83D"):
        panel.request(sample(question="q", answer="\ud83d"), 0)


def test_template_body_has_plain_messages() -> None:
    judge = JudgeConfig(kind="template", system="Judge.", user='{question} {"score": 5}', verdict=TEMPLATE)
    assert body(judge, sample(question="q {answer}", answer="x"))["messages"] == [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": 'q {answer} {"score": 5}'},
    ]


def test_variants_and_custom_ids() -> None:
    first = JudgeConfig(name="a", kind="pai_pairwise", swap=True, repeats=2)
    panel = Panel([first, JudgeConfig(name="b", kind="pai_pairwise")])
    names = [panel.custom_id(12, variant) for variant in range(len(panel.variants))]
    assert names == ["12-a-o-0", "12-a-o-1", "12-a-s-0", "12-a-s-1", "12-b-o-0"]


def test_swap_swaps_the_answers_everywhere_and_nothing_else() -> None:
    judge = JudgeConfig(kind="pai_pairwise", swap=True, pai={"scene": "{answer1}{model1}"})
    row = sample({"model1": "m"}, question="q", answer1="a", answer2="b")
    assert built_in_texts(judge, row, 0) == {"question": "q", "answer1": "a", "answer2": "b", "scene": "am"}
    assert built_in_texts(judge, row, 1) == {"question": "q", "answer1": "b", "answer2": "a", "scene": "bm"}


def test_swapped_template_and_its_verdict() -> None:
    verdict = VerdictConfig(format="mt_bench_pair")
    judge = JudgeConfig(kind="template", user="{answer1.text}|{answer2.text}|{raw}", swap=True, verdict=verdict)
    row = sample({"raw": "r"}, answer1={"text": "a"}, answer2={"text": "b"})
    panel = Panel([judge])
    assert [body(judge, row, v)["messages"][0]["content"] for v in (0, 1)] == ["a|b|r", "b|a|r"]
    read = [panel.read(panel.request(row, v), JudgeResponse(text)).winner for v, text in enumerate(["[[A]]", "[[B]]"])]
    assert read == ["1", "1"]


def test_swapped_scores_and_dimensions_are_returned_in_dataset_order() -> None:
    panel = Panel([JudgeConfig(kind="pai_pairwise", swap=True)])
    text = (
        "我认为[[回复2更好]],其中回复1的综合评分为[[2]],回复2的综合评分为[[5]],理由如下:\n"
        "1. 逻辑:回复1得[[1]],回复2得[[4]]。"
    )
    plain, swapped = (panel.read_variant(variant, JudgeResponse(text)) for variant in (0, 1))
    assert (plain.winner, plain.score1, plain.score2) == ("2", 2, 5)
    assert (swapped.winner, swapped.score1, swapped.score2) == ("1", 5, 2)
    assert {(d.answer, d.score) for d in plain.dimensions} == {(1, 1), (2, 4)}
    assert {(d.answer, d.score) for d in swapped.dimensions} == {(2, 1), (1, 4)}
    assert plain.contradiction is swapped.contradiction is False


def test_too_long_only_if_certain() -> None:
    at_the_limit = sample(question="", answer="x" * (4 * 32768))
    over = sample(question="", answer="x" * (4 * 32769))
    assert body(JudgeConfig(), at_the_limit)
    with pytest.raises(BadRow, match="at least 32769 tokens, but the model takes 32768") as caught:
        body(JudgeConfig(), over)
    assert caught.value.error_type == "too_long"
    assert body(JudgeConfig(model="other"), over)


def test_too_long_counts_half_a_token_per_chinese_character() -> None:
    assert body(JudgeConfig(), sample(question="", answer="好" * 65_000))
    with pytest.raises(BadRow):
        body(JudgeConfig(), sample(question="", answer="好" * 65_540))


def test_reask_doubles_the_token_cap_only_if_it_cut_the_reply_off() -> None:
    panel = Panel([JudgeConfig(parameters={"max_tokens": 100})])
    request = panel.request(sample(question="q", answer="a"), 0)
    assert reask_body(request.body, JudgeResponse("", "stop")) == request.body
    again = reask_body(request.body, JudgeResponse("", "length"))
    assert json.loads(again) == {**json.loads(request.body), "max_tokens": 200}
    assert json.loads(reask_body(again, JudgeResponse("", "length")))["max_tokens"] == 400


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (JudgeResponse(None, "stop", refusal="I won't."), "no_verdict"),
        (JudgeResponse(" \n", "stop"), "no_verdict"),
        (JudgeResponse("an unfinished", "length"), "truncated"),
        (JudgeResponse("<think>so [[4]]", "length"), "truncated"),
        (JudgeResponse("综合评分为[[4]],理由", "length"), None),
    ],
)
def test_replies_without_a_verdict(response: JudgeResponse, problem: str | None) -> None:
    verdict = Panel([JudgeConfig()]).read_variant(0, response)
    assert verdict.problem == problem
    assert (verdict.score is None) == (problem is not None)
    assert response.refusal is None or verdict.detail == response.refusal


def test_missing_names_are_reported_with_the_nearest_spelling() -> None:
    judge = JudgeConfig(name="j", kind="template", user="{question} {anwser} {meta.topic}", verdict=TEMPLATE)
    panel = Panel([judge, JudgeConfig(name="p")])
    assert panel.required_fields() == {"j": ("question", "anwser", "meta.topic"), "p": ("question", "answer")}
    with pytest.raises(ConfigError, match=r"\{anwser\}.*did you mean `\{answer\}`"):
        panel.check_names({"question", "answer"}, {"question", "answer", "meta"})
    with pytest.raises(ConfigError, match="needs the field `answer`"):
        Panel([JudgeConfig()]).check_names({"question"}, {"question", "reply"})
